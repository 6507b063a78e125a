"""Tables say what is missing and why, and other programs read their exports."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest
from folders import write_fit, write_test

from dfm_lightning.report.exports import as_csv, as_latex, as_markdown
from dfm_lightning.report.folders import read_runs
from dfm_lightning.report.run_tables import (
    table_of_differences,
    table_of_joint_scores,
    table_of_runs,
    table_of_scores,
    table_of_settings,
)
from dfm_lightning.report.runs import Run
from dfm_lightning.report.statistics import Estimate
from dfm_lightning.report.tables import Cell, Table, estimated

GOOD = {f"s{number}": 20.0 + number for number in range(6)}
BAD = {key: value - 2 for key, value in GOOD.items()}


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    write_test(tmp_path / "good", GOOD)
    write_test(tmp_path / "bad", BAD, **{"sampler.steps": 2})
    return read_runs([tmp_path / "good", tmp_path / "bad"])


def row_of(table: Table, *start: str) -> list[Cell]:
    return next(list(row) for row in table.rows if [cell.text for cell in row[: len(start)]] == list(start))


def test_scores_have_intervals_and_the_best_is_marked(runs: list[Run]) -> None:
    table = table_of_scores(runs, "target")
    assert [cell.text for cell in table.rows[0]] == ["scenes (N)", "6", "6"]
    _, good, bad = row_of(table, "psnr mean")
    assert good.estimate is not None
    assert good.estimate.mean == 22.5
    assert good.text.startswith("22.5")
    assert "[" in good.text
    assert (good.mark, bad.mark) == ("best", "")
    assert row_of(table, "rmse")[1].mark == "best"
    assert row_of(table, "spread")[1].mark == ""


def test_a_missing_score_has_its_reason(runs: list[Run]) -> None:
    scenes = {
        key: {"target": {**roles["target"], "lpips_mean": 0.2, "ssim_mean": 0.3}}
        for key, roles in runs[0].scenes.items()
    }
    table = table_of_scores([dataclasses.replace(runs[0], scenes=scenes), runs[1]], "target")
    assert row_of(table, "lpips mean")[2] == Cell("–", reason="LPIPS needs weights")
    assert row_of(table, "ssim mean")[2].reason == "not measured in this run"


def test_differences_are_of_pairs(runs: list[Run]) -> None:
    table = table_of_differences(runs)
    assert table is not None
    assert table.head[2] == "good − bad"
    cell = row_of(table, "target", "psnr mean")[2]
    assert cell.estimate is not None
    assert cell.estimate == pytest.approx(Estimate(2.0, 2.0, 2.0, 6))
    assert cell.mark == "better"
    apart = dataclasses.replace(runs[1], scenes={f"x{key}": roles for key, roles in runs[1].scenes.items()})
    assert table_of_differences([runs[0], apart]) is None


def test_what_runs_are_and_differ_in(runs: list[Run], tmp_path: Path) -> None:
    write_fit(tmp_path / "fit", [1.0], max_steps=100)
    table = table_of_runs([*runs, *read_runs([tmp_path / "fit"])])
    first = dict(zip(table.head, [cell.text for cell in table.rows[0]], strict=True))
    assert first["scenes (N)"] == "6"
    assert first["resolution"] == "8×8"
    assert (first["sampler"], first["evaluations"], first["guidance"]) == ("DDIM", "8", "1.0")
    assert (first["seed"], first["weights"], first["state"]) == ("0", "0123456789abcdef", "finished")
    assert "unfinished" in table.rows[2][-1].text
    differing = table_of_settings(runs)
    assert differing is not None
    assert [[cell.text for cell in row] for row in differing.rows] == [["sampler.steps", "8", "2"]]
    assert table_of_settings(runs[:1]) is None


def test_scores_of_all_scenes_have_their_intervals_beside_them(runs: list[Run]) -> None:
    table = table_of_joint_scores(runs)
    assert table is not None
    cell = row_of(table, "hidden look", "total variation")[2]
    assert cell.text == "0.20 [0.10, 0.30]"
    assert not any("low" in row[1].text for row in table.rows)


def record(folder: Path, **entries: object) -> None:
    """Change entries of a report."""
    path = folder / "report.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_scenes_have_the_noun_that_the_reports_agree_on(runs: list[Run]) -> None:
    folders = [run.path for run in runs]
    record(folders[0], item="clip")
    clips, unknown = read_runs(folders)
    for each in ([clips], [clips, unknown]):
        assert row_of(table_of_scores(each, "target"), "clips (N)")
        joint = table_of_joint_scores(each)
        assert joint is not None
        assert joint.title == "All clips together"
    record(folders[1], item="patch")
    assert row_of(table_of_scores(read_runs(folders), "target"), "scenes (N)")
    assert row_of(table_of_scores(read_runs(folders[1:]), "target"), "patches (N)")


def test_joint_scores_of_the_first_version_are_read(runs: list[Run]) -> None:
    path = runs[0].path / "report.json"
    report = json.loads(path.read_text())
    report["together"] = report.pop("joint")
    path.write_text(json.dumps(report))
    assert read_runs([runs[0].path])[0].joint == runs[0].joint != {}


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(22.4567, 21.1, 23.9, 5), "22.5 [21.1, 23.9]"),
        (Estimate(0.012345, 0.0121, 0.0126, 5), "0.01235 [0.01210, 0.01260]"),
        (Estimate(-0.0001, -0.4, 0.4, 5), "0.00 [-0.40, 0.40]"),
        (Estimate(1234.5, None, None, 1), "1234"),
        (Estimate(0.0, 0.0, 0.0, 5), "0.00 [0.00, 0.00]"),
    ],
)
def test_numbers_have_the_digits_that_count(estimate: Estimate, text: str) -> None:
    assert estimated(estimate).text == text


def test_exports_are_read_back() -> None:
    cells = [Cell("a_b & 50% | c"), estimated(Estimate(1 / 3, 0.25, 0.5, 7), "best"), Cell("–", reason="why")]
    table = Table("t", "T", "", ["score", "run", "other run"], [cells, [Cell("x"), Cell("–"), Cell("3")]])
    head, first, second = csv.reader(io.StringIO(as_csv(table)))
    assert head == ["score", "run", "run low", "run high", "run scenes", "other run"]
    assert float(first[1]) == 1 / 3, "all digits"
    assert first[2:] == ["0.25", "0.5", "7", "–"]
    assert second == ["x", "", "", "", "", "3"]
    assert as_markdown(table).splitlines()[2] == r"| a_b & 50% \| c | **0.33 [0.25, 0.50]** | – |"
    latex = as_latex(table)
    assert r"a\_b \& 50\% | c & \textbf{0.33 [0.25, 0.50]} & -- \\" in latex
    assert latex.count(r"\\") == 3
