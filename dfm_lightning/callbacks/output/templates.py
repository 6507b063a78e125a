"""Render pages from Jinja2 templates, which lie beside the code that fills them."""

from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

# The common parts of all pages.
_COMMON = Path(__file__).parent / "templates"


def rendered(template: str, folder: Path = _COMMON, **values: Any) -> str:
    """Fill a template of a folder, or one shared by all pages; escape everything but markup."""
    return _environment(folder).get_template(template).render(values)


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, _COMMON]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["link"] = lambda path: quote(Path(path).as_posix())
    return environment
