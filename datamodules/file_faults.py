"""Faults of a data set's files, as `dfm data verify` reports them."""

from typing import NamedTuple


class FileFault(NamedTuple):
    """A fault in a data set; `where` is a scene or a file."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"
