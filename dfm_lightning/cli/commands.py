"""The commands that are plain functions: `dfm data COMMAND`, `dfm convert COMMAND`, `dfm report`, `dfm view`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from dfm_lightning.cli import convert, data
from dfm_lightning.cli.parser import DfmParser, add_functions
from dfm_lightning.report import report_runs
from dfm_lightning.viewer.server import view


class Group(NamedTuple):
    """Commands that share a first word and a description."""

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

VIEW = "view"
VIEW_SUMMARY = "Look at the samples of a scene side by side in the browser."
REPORT = "report"
REPORT_SUMMARY = "Make one page of results from the folders of tests, predictions and trainings."
REPORT_FOLDERS = (
    "What dfm test and dfm predict have written, and dfm fit has logged (runs/NAME/version_N); "
    "or folders that hold several of these."
)


def run_command(group: str, arguments: list[str]) -> None:
    """Parse the arguments after `dfm GROUP`, and call the function they name."""
    parser = DfmParser(prog=f"dfm {group}", description=GROUPS[group].summary)
    add_functions(parser, GROUPS[group].functions)
    parsed = parser.parse_args(arguments or ["--help"])
    settings = parser.instantiate(parsed)[parsed.subcommand]
    GROUPS[group].functions[parsed.subcommand](**settings.as_dict())


def view_parser(**options: Any) -> DfmParser:
    """Make the parser of `dfm view`."""
    parser = DfmParser(description=VIEW_SUMMARY, **options)
    parser.add_function_arguments(view, as_positional=True)
    return parser


def run_view(arguments: list[str]) -> None:
    """Parse the arguments after `dfm view`, and serve the page."""
    parser = view_parser(prog=f"dfm {VIEW}")
    view(**parser.instantiate(parser.parse_args(arguments or ["--help"])).as_dict())


def report_parser(**options: Any) -> DfmParser:
    """Make the parser of `dfm report`, which takes any number of folders."""
    parser = DfmParser(description=REPORT_SUMMARY, **options)
    parser.add_argument("folders", nargs="+", type=str, metavar="DIR", help=REPORT_FOLDERS)
    parser.add_function_arguments(report_runs, skip={"folders"})
    return parser


def run_report(arguments: list[str]) -> None:
    """Parse the arguments after `dfm report`, and make the page."""
    parser = report_parser(prog=f"dfm {REPORT}")
    settings = parser.instantiate(parser.parse_args(arguments or ["--help"])).as_dict()
    folders = [Path(folder) for folder in settings.pop("folders")]
    report_runs(folders, **settings)
