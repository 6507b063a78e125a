"""`dfm tune-sampler`: an overlay that other commands take, on validation scenes alone."""

from pathlib import Path

import pytest
import yaml
from toy_runs import Run, checkpoint

from dfm_lightning.cli import main


def test_the_overlay_is_laid_over_a_config(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = ["--ckpt_path", str(checkpoint(run("fit")))]
    # Data of other kinds than validation cannot be read.
    problem = (folder / "toy_problem.py").read_text()
    for kind in ("test", "predict", "train"):
        assert f'"{kind}"' in problem
    toy = __import__("toy_problem")
    for loader in ("test_dataloader", "predict_dataloader", "train_dataloader"):
        monkeypatch.setattr(toy.ToyData, loader, None)
    few = ["--tune.evaluations", "3", "--tune.candidates", "4", "--tune.scenes", "6", "--tune.output", "found"]
    assert main(["tune-sampler", "--config", "toy.yaml", *weights, *few]) == 0
    described = yaml.safe_load(Path("found/sampler.yaml").read_text())["model"]["init_args"]["sampler"]
    assert described["init_args"]["steps"] == 3
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert main(["test", "--config", "toy.yaml", "--config", "found/sampler.yaml", *weights]) == 0


def test_without_a_checkpoint_it_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune-sampler", "--config", "toy.yaml"]) == 2
    assert "--ckpt_path" in capsys.readouterr().err
    assert not Path("tuned").exists()


def test_more_evaluations_than_levels_are_refused(
    folder: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = ["--ckpt_path", str(checkpoint(run("fit")))]
    few = ["--tune.evaluations", "3", "--tune.reference_evaluations", "1200"]
    assert main(["tune-sampler", "--config", "toy.yaml", *weights, *few]) == 2
    assert "reference_evaluations" in capsys.readouterr().err.splitlines()[-1]
    assert not Path("tuned").exists()


def test_numbers_out_of_range_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune-sampler", "--config", "toy.yaml", "--tune.evaluations", "0"]) == 2
    assert "evaluations" in capsys.readouterr().err
