"""JSON files of data sets, from whatever program."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """Read a JSON file in UTF-8, with a byte order mark or without.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON.
    """
    return parse_json(path.read_text(encoding="utf-8-sig"))


def parse_json(text: str | bytes) -> Any:
    """Parse JSON. Raises ValueError if it is none, or nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists in lists in lists, too deep to be read") from None


def whole_number(value: Any) -> int:
    """Return a whole number of a JSON file, of which some writers make 3.0. Raises TypeError or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a whole number, got {value!r:.80}")
    if value != value or abs(value) >= 2**53 or int(value) != value:
        raise ValueError(
            f"expected a whole number, got {value:g}"
            if isinstance(value, float)
            else "a number of too many digits"
        )
    return int(value)
