"""Checks of numbers that the user sets: a constructor refuses what could only fail, or mislead, later.

Each function takes numbers by the names of their settings. None stands for a setting that is not given; of a list
or tuple each number is checked. NaN and infinity are in no range.

Raises:
    ValueError: a number is outside its range; the message names the setting, the range and the number.
"""

import math
from collections.abc import Callable, Iterable

# (Apart from `float`, since the checker of types at run time does not take an integer for one.)
Number = float | int
Setting = Number | Iterable[Number] | None


def check_at_least(least: Number, **settings: Setting) -> None:
    """Check that numbers are at least this one."""
    _check(settings, lambda number: number >= least, f"at least {least:g}")


def check_above(bound: Number, **settings: Setting) -> None:
    """Check that numbers are above this one."""
    _check(settings, lambda number: number > bound, f"above {bound:g}")


def check_within(least: Number, most: Number, **settings: Setting) -> None:
    """Check that numbers are from `least` to `most`, both included."""
    _check(settings, lambda number: least <= number <= most, f"within {least:g} and {most:g}")


def check_below_one(**settings: Setting) -> None:
    """Check that numbers are from 0 on and below 1."""
    _check(settings, lambda number: 0 <= number < 1, "at least 0 and below 1")


def check_finite(**settings: Setting) -> None:
    """Check that numbers are any but NaN and infinity."""
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
