"""One self-contained HTML page with relative links, to look at results in a browser."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from dfm_lightning.files import write_text

STYLE = """
body { font-family: sans-serif; margin: 2em; color: #222; background: #fff; }
section { margin-bottom: 2em; border-top: 1px solid #ccc; }
figure { display: inline-block; margin: 0 .5em .5em 0; vertical-align: top; }
figcaption { font-size: 80%; color: #555; }
img, video { display: block; min-height: 128px; max-width: 100%; image-rendering: pixelated; }
table { border-collapse: collapse; font-size: 90%; }
td, th { padding: .2em .8em; text-align: left; border-bottom: 1px solid #ddd; }
"""


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
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    lines = ["<!doctype html>", f'<html lang="en"><head>{head}</head>', f"<body><h1>{escape(title)}</h1>"]
    lines += [_section(section) for section in sections]
    write_text(path, "\n".join([*lines, "</body></html>", ""]))


def _section(section: Section) -> str:
    text = f"<p>{escape(section.text)}</p>" if section.text else ""
    figures = "".join(_figure(figure) for figure in section.figures)
    return f"<section><h2>{escape(section.title)}</h2>{text}{_table(section.table)}{figures}</section>"


def _figure(figure: Picture | Video) -> str:
    link = escape(quote(figure.path.as_posix()))
    if isinstance(figure, Video):
        medium = f'<video src="{link}" controls loop muted autoplay playsinline></video>'
    else:
        medium = f'<a href="{link}"><img src="{link}" loading="lazy" alt="{escape(figure.caption)}"></a>'
    return f"<figure>{medium}<figcaption>{escape(figure.caption)}</figcaption></figure>"


def _table(table: Sequence[Sequence[str]]) -> str:
    if not table:
        return ""
    head, *rows = table
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{lines}</table>"
