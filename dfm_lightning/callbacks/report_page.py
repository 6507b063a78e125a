"""The files of a finished test: report.json, report.csv and the page index.html."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dfm_lightning.callbacks.output import Picture, Section, Video, write_page
from dfm_lightning.callbacks.report_tables import (
    SceneScores,
    Scores,
    as_csv,
    as_table,
    average_scores,
    columns_of,
    print_table,
    standard_errors,
)
from dfm_lightning.files import file_name, write_json, write_text
from dfm_lightning.wording import counted, plural_of

REPORT_FILES = ("report.json", "report.csv", "index.html")


class Results(NamedTuple):
    """The results of a test.

    `scenes` are the scores of each scene, `joint` those of all at once. `missing` and `notes` are reasons and
    remarks, by the score's name. `settings` are shown on the page; `record` holds further ones, which are only
    stored. `item` is the noun for a scene.
    """

    scenes: SceneScores
    joint: dict[str, Scores]
    missing: dict[str, str]
    notes: dict[str, str]
    settings: dict[str, Any]
    record: dict[str, Any]
    item: str = "scene"


def write_report(folder: Path, results: Results, headline: Sequence[str]) -> None:
    """Write the files of a test, and print its averages.

    Args:
        folder: where to write. Contact sheets are looked for in `sheets/`.
        results: of the test.
        headline: names of the scores that tables show; all if empty.
    """
    average, errors = average_scores(results.scenes.values()), standard_errors(results.scenes.values())
    report = {
        "average": average,
        "standard_error": errors,
        "joint": results.joint,
        "missing": results.missing,
        "notes": results.notes,
        "item": results.item,
        "settings": {**results.settings, **results.record},
        "scenes": results.scenes,
    }
    as_json, as_lines, page = (folder / name for name in REPORT_FILES)
    write_json(as_json, report)
    write_text(as_lines, as_csv(results.scenes, average, results.joint))
    write_page(page, "Test", _sections(folder, results, headline))
    print_table(as_table(average, headline or columns_of(list(average.values())), errors))
    if results.joint:
        print_table(_joint_table(results.joint))
    for name, note in results.notes.items():
        print(f"{name}: {note}")
    print(f"test report: {page}")


def sheet_file(folder: Path, key: str) -> Path:
    """Return the path of a scene's contact sheet."""
    return folder / "sheets" / f"{file_name(key)}.png"


def _sections(folder: Path, results: Results, headline: Sequence[str]) -> list[Section]:
    average, errors = average_scores(results.scenes.values()), standard_errors(results.scenes.values())
    names = headline or columns_of(list(average.values()))
    settings = ", ".join(f"{name} {value}" for name, value in results.settings.items())
    missing = "".join(f" {name} is missing: {why}" for name, why in results.missing.items())
    title = f"Average of {counted(len(results.scenes), results.item)}"
    sections = [Section(title, settings + "." + missing, table=as_table(average, names, errors))]
    if results.joint:
        notes = " ".join(f"{name}: {note}" for name, note in results.notes.items())
        title = f"All {plural_of(results.item)} together"
        sections.append(Section(title, notes, table=_joint_table(results.joint)))
    for key, scores in results.scenes.items():
        path = sheet_file(folder, key)
        sheets: list[Picture | Video] = [Picture(path.relative_to(folder), key)] if path.exists() else []
        sections.append(Section(key, figures=sheets, table=as_table(scores, names)))
    return sections


def _joint_table(joint: dict[str, Scores]) -> list[list[str]]:
    return as_table(joint, columns_of(list(joint.values())))
