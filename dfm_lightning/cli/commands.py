"""The commands that are plain functions: `dfm data COMMAND` and `dfm convert COMMAND`."""

from collections.abc import Callable
from typing import NamedTuple

from dfm_lightning.cli import convert, data
from dfm_lightning.cli.parser import DfmParser, add_functions


class Group(NamedTuple):
    """Commands that share a first word, and what they have in common."""

    summary: str
    functions: dict[str, Callable[..., None]]


GROUPS = {
    name: group
    for name, group in {
        "data": Group("Make, inspect and verify data sets.", data.COMMANDS),
        "convert": Group("Convert weights of and for other programs.", convert.COMMANDS),
    }.items()
    if group.functions
}


def run_command(group: str, arguments: list[str]) -> None:
    """Parse the arguments after `dfm GROUP`, and call the function they name."""
    parser = DfmParser(prog=f"dfm {group}", description=GROUPS[group].summary)
    add_functions(parser, GROUPS[group].functions)
    parsed = parser.parse_args(arguments or ["--help"])
    settings = parser.instantiate(parsed)[parsed.subcommand]
    GROUPS[group].functions[parsed.subcommand](**settings.as_dict())
