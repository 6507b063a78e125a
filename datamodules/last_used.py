"""A cache of recently opened objects that can be sent to other processes."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class LastUsed(Generic[Key, Value]):
    """A function that remembers its most recent results.

    A pickled copy, as spawned worker processes receive it, starts empty: open files stay in their process.

    Args:
        function: computes the value of a key; a function or method that can be pickled.
        size: number of results to remember.
    """

    def __init__(self, function: Callable[[Key], Value], size: int) -> None:
        self._arguments = (function, size)
        self._results = lru_cache(size)(function)

    def __call__(self, key: Key) -> Value:
        return self._results(key)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments
