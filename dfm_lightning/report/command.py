"""`dfm report`: one page from the folders of runs."""

from pathlib import Path

from dfm_lightning.errors import UserError
from dfm_lightning.files import write_text
from dfm_lightning.ranges import Number
from dfm_lightning.report.folders import read_runs
from dfm_lightning.report.page import notices_of, page_of

_MEGABYTE = 1_000_000


def report_runs(
    folders: list[Path],
    output: Path = Path("report.html"),
    title: str = "Results",
    scenes: int = 50,
    megabytes: Number = 30,
) -> None:
    """Make one page of results from the folders of tests, predictions and trainings.

    The page holds everything it shows, and needs neither network nor server. The same folders give the same bytes.

    Args:
        folders: what `dfm test` and `dfm predict` have written, and `dfm fit` has logged (runs/NAME/version_N); or
            folders that hold several of these.
        output: the page to write.
        title: its title.
        scenes: how many scenes are shown at most, those first that most runs have. Scores are of all.
        megabytes: how large the page may become. Pictures are stored with losses, or left out, where there are too
            many, and the page says so.
    """
    if scenes < 0 or megabytes <= 0:
        raise UserError(f"scenes must be at least 0 and megabytes above 0, got {scenes} and {megabytes}")
    if output.is_dir():
        raise UserError(f"{output} is a folder: name the page to write, as in {output / 'report.html'}")
    runs = read_runs(folders)
    page, cuts = page_of(runs, title, scenes, round(megabytes * _MEGABYTE))
    write_text(output, page)
    for line in [*notices_of(runs), *cuts]:
        print(line)
    print(f"report of {len(runs)} runs: {output}")
