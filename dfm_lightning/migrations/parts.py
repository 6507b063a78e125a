"""The parts of a config, as steps of migration read them."""

from typing import Any


def settings_within(arguments: dict[str, Any], part: str) -> dict[str, Any]:
    """Return the settings of a part; none if it is missing, or only the name of a class."""
    found = arguments.get(part)
    found = found.get("init_args") if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
