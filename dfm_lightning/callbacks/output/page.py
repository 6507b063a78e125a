"""One self-contained HTML page with relative links, for viewing results in a browser."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dfm_lightning.callbacks.output.templates import rendered
from dfm_lightning.files import write_text


class Picture(NamedTuple):
    """An image file and what it shows. `path` is relative to the page."""

    path: Path
    caption: str


class Video(NamedTuple):
    """A video file and what it shows. `path` is relative to the page."""

    path: Path
    caption: str


class Section(NamedTuple):
    """A part of a page: a heading, a line of text, figures and a table (its first row is the head)."""

    title: str
    text: str = ""
    figures: Sequence[Picture | Video] = ()
    table: Sequence[Sequence[str]] = ()


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write a whole HTML page that needs nothing from the network."""
    text = rendered(
        "page.html.j2", title=title, sections=sections, is_video=lambda figure: isinstance(figure, Video)
    )
    write_text(path, text)
