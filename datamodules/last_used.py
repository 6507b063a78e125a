"""What was opened last, kept open: a cache that can be sent to other processes."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class LastUsed(Generic[Key, Value]):
    """A function that remembers its last results.

    Pickled, as worker processes that are spawned need it, it begins empty: what is open stays in its process.

    Args:
        function: gives the value of a key; a function or method that can be pickled.
        size: how many results are remembered.
    """

    def __init__(self, function: Callable[[Key], Value], size: int) -> None:
        self._arguments = (function, size)
        self._results = lru_cache(size)(function)

    def __call__(self, key: Key) -> Value:
        return self._results(key)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments
