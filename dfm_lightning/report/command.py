"""`dfm report`: one page from the folders of runs."""

from pathlib import Path

from dfm_lightning.errors import UserError
from dfm_lightning.files import write_text
from dfm_lightning.ranges import Number
from dfm_lightning.report.folders import read_runs
from dfm_lightning.report.page import notices_of, page_of
from dfm_lightning.wording import counted

_MEGABYTE = 1_000_000


def report_runs(
    folders: list[Path],
    output: Path = Path("report.html"),
    title: str = "Results",
    scenes: int = 50,
    megabytes: Number = 30,
    pictures_first: bool = False,
) -> None:
    """Make one page of results from the folders of tests, predictions and trainings.

    The page contains everything it shows, and needs neither network nor server. The same folders give the same
    bytes.

    Args:
        folders: folders that `dfm test` and `dfm predict` have written, or `dfm fit` has logged to
            (runs/NAME/version_N); or folders that hold several of these.
        output: the page to write.
        title: its title.
        scenes: largest number of scenes shown; those that most runs have come first. Scores cover all.
        megabytes: largest size of the page. If there are too many pictures, they are compressed or left out, and
            the page says so.
        pictures_first: show the scenes and their videos above tables and charts.
    """
    if scenes < 0 or megabytes <= 0:
        raise UserError(f"scenes must be at least 0 and megabytes above 0, got {scenes} and {megabytes}")
    if output.is_dir():
        raise UserError(f"{output} is a folder: name the page to write, as in {output / 'report.html'}")
    runs = read_runs(folders)
    page, cuts = page_of(runs, title, scenes, round(megabytes * _MEGABYTE), pictures_first)
    write_text(output, page)
    for line in [*notices_of(runs), *cuts]:
        print(line)
    print(f"report of {counted(len(runs), 'run')}: {output}")
