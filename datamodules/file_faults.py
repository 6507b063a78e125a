"""What `dfm data verify` finds."""

from typing import NamedTuple


class FileFault(NamedTuple):
    """Something that is wrong with a root; `where` is a scene or a file."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"
