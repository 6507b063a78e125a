"""Folders of tests, predictions and trainings are read as what they are, finished or not, and damage is named."""

import json
import shutil
from pathlib import Path

import pytest
from folders import SETTINGS, write_fit, write_prediction, write_test

from dfm_lightning.errors import UserError
from dfm_lightning.report.folders import read_runs

QUALITY = {"a": 20.0, "b": 22.0}


def test_a_test_that_was_finished(tmp_path: Path) -> None:
    write_test(tmp_path / "test", QUALITY)
    (run,) = read_runs([tmp_path / "test"])
    assert (run.name, run.kind, run.notices) == ("test", "test", ())
    assert {key: scene["target"]["psnr_mean"] for key, scene in run.scenes.items()} == QUALITY
    assert run.settings["evaluations"] == 8
    assert run.missing == {"lpips": "LPIPS needs weights"}
    assert run.sketches["a"] == {"context.observation": "1x3: 1 2 3"}


def test_a_test_that_was_interrupted_says_so(tmp_path: Path) -> None:
    write_test(tmp_path, QUALITY, finished=False)
    (run,) = read_runs([tmp_path])
    assert run.scenes.keys() == QUALITY.keys()
    assert "unfinished: 2 scenes" in run.notices[0]


def test_scenes_of_other_settings_are_left_out(tmp_path: Path) -> None:
    write_test(tmp_path, {"old": 1.0}, finished=False, seed=7)
    write_test(tmp_path, QUALITY, finished=False)
    (run,) = read_runs([tmp_path])
    assert run.scenes.keys() == QUALITY.keys()
    assert "1 scene measured" in run.notices[1]


def test_a_test_of_the_first_version(tmp_path: Path) -> None:
    write_test(tmp_path, QUALITY, pictures=False)
    for path in (tmp_path / "scenes").iterdir():
        old = {name: value for name, value in json.loads(path.read_text()).items() if name in ("key", "scores")}
        path.write_text(json.dumps({**old, "images": "01", "made_with": {}}))
    (run,) = read_runs([tmp_path])
    assert run.scenes.keys() == QUALITY.keys()
    assert any("0.1.0" in notice for notice in run.notices)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("report.json", '{"scenes": {'),
        ("report.json", "[]"),
        ("report.json", '{"scenes": {}}'),
        ("report.json", '{"scenes": {"a": {"target": {"psnr": "good"}}}, "settings": {}}'),
        ("scenes/b.json", ""),
        ("scenes/b.json", "\x00\x01"),
        ("scenes/b.json", "{}"),
    ],
)
def test_a_damaged_file_of_a_test_is_named(tmp_path: Path, name: str, content: str) -> None:
    write_test(tmp_path, QUALITY)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        read_runs([tmp_path])
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_predictions(tmp_path: Path) -> None:
    write_prediction(tmp_path / "predict", ["a", "b"])
    (run,) = read_runs([tmp_path / "predict"])
    assert (run.kind, run.notices) == ("predict", ())
    assert [folder.name for folder in run.samples["b"]] == ["sample_00", "sample_01"]
    assert run.settings["weights"] == SETTINGS["weights"]
    shutil.rmtree(tmp_path / "predict" / "b" / "sample_01")
    (run,) = read_runs([tmp_path / "predict"])
    assert "unfinished: 1 to 2 samples" in run.notices[0]
    (tmp_path / "predict" / "b" / "sample_00" / "sample.json").write_text("{")
    with pytest.raises(UserError, match=r"b/sample_00/sample\.json"):
        read_runs([tmp_path / "predict"])


def test_a_training(tmp_path: Path) -> None:
    write_fit(tmp_path / "runs" / "x" / "version_0", [3.0, 2.0, 1.0], max_steps=30)
    write_fit(tmp_path / "runs" / "x" / "version_1", [3.0, float("nan")], max_steps=30)
    done, half = read_runs([tmp_path / "runs"])
    assert [done.name, half.name] == ["version_0", "version_1"]
    assert done.notices == ()
    assert done.curves["train/loss"].steps == [9, 19, 29]
    assert done.curves["train/loss"].hours == pytest.approx([0, 1, 2])
    assert done.curves["val/loss"].values == pytest.approx([1.5, 1.0, 0.5])
    assert done.settings["model"] == "Model"
    assert "20 of 30" in half.notices[0]
    assert "2 logged" in half.notices[1]
    (tmp_path / "runs" / "x" / "version_1" / "config.yaml").write_text("a: [")
    with pytest.raises(UserError, match=r"version_1/config\.yaml"):
        read_runs([tmp_path / "runs"])


def test_folders_that_hold_runs_stand_for_them(tmp_path: Path) -> None:
    write_test(tmp_path / "demo" / "test_10", QUALITY)
    write_test(tmp_path / "demo" / "test_9", QUALITY)
    runs = read_runs([tmp_path / "demo", tmp_path / "demo" / "test_9"])
    assert [run.name for run in runs] == ["test_9", "test_10"]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run"):
        read_runs([tmp_path])
    with pytest.raises(UserError, match="no such folder"):
        read_runs([tmp_path / "nowhere"])
