"""Check numbers that the user sets, so that constructors refuse values that would fail, or mislead, later.

Each function takes numbers by the names of their settings. None stands for an unset one; each number of a list or
tuple is checked. NaN and infinity are in no range.

Raises:
    ValueError: a number is outside its range; the message names the setting, the range and the number.
"""

import math
from collections.abc import Callable, Iterable

# (Besides `float`, since the runtime type checker does not accept an integer for one.)
Number = float | int
Setting = Number | Iterable[Number] | None


def check_at_least(least: Number, **settings: Setting) -> None:
    """Check that numbers are at least this large."""
    _check(settings, lambda number: number >= least, f"at least {least:g}")


def check_above(bound: Number, **settings: Setting) -> None:
    """Check that numbers are above this one."""
    _check(settings, lambda number: number > bound, f"above {bound:g}")


def check_within(least: Number, most: Number, **settings: Setting) -> None:
    """Check that numbers lie between `least` and `most`, both included."""
    _check(settings, lambda number: least <= number <= most, f"within {least:g} and {most:g}")


def check_below_one(**settings: Setting) -> None:
    """Check that numbers lie in [0, 1)."""
    _check(settings, lambda number: 0 <= number < 1, "at least 0 and below 1")


def check_finite(**settings: Setting) -> None:
    """Check that numbers are finite."""
    _check(settings, lambda number: True, "a finite number")


def check_ascending(least: Number, **settings: tuple[Number, Number] | None) -> None:
    """Check that the first of two numbers is at least this one, and at most the second."""
    check_at_least(least, **settings)
    for name, pair in settings.items():
        if pair is not None and pair[0] > pair[1]:
            raise ValueError(f"{name} must be a least and a greatest number, got {list(pair)}")


def _check(settings: dict[str, Setting], allowed: Callable[[Number], bool], expected: str) -> None:
    for name, setting in settings.items():
        if setting is None:
            continue
        for number in setting if isinstance(setting, Iterable) else [setting]:
            if not math.isfinite(number) or not allowed(number):
                raise ValueError(f"{name} must be {expected}, got {number:g}")
