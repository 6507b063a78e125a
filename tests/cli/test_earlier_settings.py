"""Options and config files of earlier versions are read as what they mean now."""

from pathlib import Path

import pytest
import yaml

from dfm_lightning.cli import main
from dfm_lightning.cli.earlier_settings import classes_of, with_current_options, with_current_settings
from dfm_lightning.migrations import CONFIG_VERSION
from dfm_lightning.migrations.moved import MOVED_CLASSES, MOVED_SETTINGS, MovedSetting

MOVED = MovedSetting("Model", "model.init_args.part.init_args.old", "model.init_args.part.init_args.new")


@pytest.fixture(autouse=True)
def _moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MOVED_CLASSES, "old.Model", "new.Model")
    MOVED_SETTINGS.append(MOVED)
    yield
    MOVED_SETTINGS.remove(MOVED)


def test_options_have_the_names_of_now(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["fit", "--model", "old.Model", "--model.part.old", "3", "--model.part.old=4", "--model=old.Model"]
    expected = ["fit", "--model", "new.Model", "--model.part.new", "3", "--model.part.new=4", "--model=new.Model"]
    assert with_current_options(given, {"model": "new.Model"}) == expected
    (line,) = capsys.readouterr().err.splitlines()
    assert "--model.part.old → --model.part.new" in line
    assert with_current_options(given[3:6], {"model": "mine.Own"}) == given[3:6]


def test_the_last_class_that_is_named_counts(tmp_path: Path) -> None:
    first, second, part = tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "part.yaml"
    first.write_text("model: {class_path: one.Model}\ndata: {class_path: one.Data}")
    second.write_text("model: {init_args: {x: 1}}\ndata: {class_path: two.Data}")
    part.write_text("class_path: three.Data")
    arguments = ["fit", "-c", str(first), f"--config={second}"]
    assert classes_of(arguments) == {"model": "one.Model", "data": "two.Data"}
    assert classes_of([*arguments, "--model", "four.Model", f"--data={part}"]) == {
        "model": "four.Model",
        "data": "three.Data",
    }


def test_a_file_keeps_its_values(tmp_path: Path) -> None:
    text = "model: {class_path: old.Model, init_args: {rate: 1e-3, names: [3e68931874661724, 007], far: .inf}}"
    current = yaml.safe_load(with_current_settings(text, "values.yaml", {}))
    assert current["model"]["class_path"] == "new.Model"
    arguments = current["model"]["init_args"]
    assert (arguments["rate"], arguments["names"]) == (1e-3, ["3e68931874661724", "007"])
    assert arguments["far"] == float("inf")
    part = tmp_path / "part.yaml"
    part.write_text("class_path: old.Model\ninit_args: {part: {init_args: {old: 1}}}")
    option, value = with_current_options(["--model", str(part)], {})
    assert option == "--model"
    assert yaml.safe_load(value) == {"class_path": "new.Model", "init_args": {"part": {"init_args": {"new": 1}}}}


@pytest.mark.parametrize("text", ["a: [", "model: {class_path: new.Model}"])
def test_what_needs_no_change_stays_as_it_is(text: str) -> None:
    assert with_current_settings(text, "a.yaml", {}) == text


def test_the_command_line_reads_old_configs_and_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(MOVED_CLASSES, "of_old.Motion", "dfm_lightning.tasks.MotionPrediction")
    monkeypatch.setitem(MOVED_CLASSES, "of_old.DDIM", "dfm_lightning.diffusion.DDIM")
    renamed = MovedSetting("MotionPrediction", "model.init_args.draws", "model.init_args.samples")
    monkeypatch.setattr("dfm_lightning.migrations.upgrade.MOVED_SETTINGS", [renamed])
    path = tmp_path / "old.yaml"
    path.write_text("config_version: 0\nmodel: {class_path: of_old.Motion, init_args: {draws: 3}}")
    options = ["--model.draws", "5", "--model.sampler", "of_old.DDIM"]
    assert main(["fit", "-c", "vimeo90k_demo", "-c", str(path), *options, "--print_config"]) == 0
    shown = capsys.readouterr()
    config = yaml.safe_load(shown.out)
    assert config["config_version"] == CONFIG_VERSION
    assert config["model"]["init_args"]["samples"] == 5
    assert config["model"]["init_args"]["sampler"]["class_path"] == "dfm_lightning.diffusion.DDIM"
    assert {line.split(" ")[0] for line in shown.err.splitlines()} == {"Options", "old.yaml"}


def test_a_config_of_a_newer_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "newer.yaml"
    path.write_text(f"config_version: {CONFIG_VERSION + 1}")
    assert main(["fit", "-c", "vimeo90k_demo", "-c", str(path), "--print_config"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "newer.yaml" in line
    assert "config_version" in line
