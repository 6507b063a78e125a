"""Tables as shown and exported: cells with their intervals and marks."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from dfm_lightning.report.statistics import Estimate

# best: the best of its row; tie: not significantly worse than the best; better, worse: of a difference.
Mark = Literal["", "best", "tie", "better", "worse"]
# The text of an empty cell.
NOTHING = "–"
_WORDS = {"best": "best", "tie": "no significant difference", "better": "better", "worse": "worse"}


class Cell(NamedTuple):
    """A cell: its text, the estimate that the text spells, a mark, and a reason (why there is no value, say)."""

    text: str
    estimate: Estimate | None = None
    mark: Mark = ""
    reason: str = ""

    @property
    def meaning(self) -> str:
        """Return the mark's meaning in words."""
        return _WORDS.get(self.mark, "")


class Table(NamedTuple):
    """A table: a short name for files, a title, a reading guide, its head and rows of as many cells."""

    name: str
    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def estimated(estimate: Estimate, mark: Mark = "", reason: str = "") -> Cell:
    """Make a cell that spells an estimate with its interval."""
    decimals = _decimals(estimate)
    text = f"{estimate.mean:.{decimals}f}"
    if estimate.low is not None and estimate.high is not None:
        text += f" [{estimate.low:.{decimals}f}, {estimate.high:.{decimals}f}]"
    return Cell(_without_minus_zero(text), estimate, mark, reason)


def number(value: float) -> str:
    """Format a number with four significant digits."""
    return f"{value:.4g}"


def _decimals(estimate: Estimate) -> int:
    """Return the decimals that show two digits of the interval, or four of a value without one."""
    if estimate.low is None or estimate.high is None or estimate.high == estimate.low:
        size, digits = abs(estimate.mean), 4
    else:
        size, digits = estimate.high - estimate.low, 2
    if size == 0:
        return 2
    return int(np.clip(digits - 1 - np.floor(np.log10(size)), 0, 8))


def _without_minus_zero(text: str) -> str:
    """Replace −0.00 by 0.00."""
    return re.sub(r"-(?=0(\.0*)?(?![\d.]))", "", text)
