"""A LightningModule that is no diffusion is tested and predicted with the stock report and writer, or refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dfm_lightning.cli import main
from dfm_lightning.randomness import generator_for

CONFIG = """
trainer:
  accelerator: cpu
  logger: false
  enable_model_summary: false
  callbacks:
  - {{class_path: TensorWriter, init_args: {{output: predictions}}}}
  - {{class_path: ScoreReport, init_args: {{output: report}}}}
model: {{class_path: no_diffusion.{model}}}
data: {{class_path: toy_problem.ToyData, init_args: {{root: data, scenes: 3}}}}
"""


@pytest.fixture
def own(folder: Path) -> Path:
    shutil.copy(Path(__file__).parent / "no_diffusion.py", folder)
    return folder


def run(folder: Path, command: str, model: str, *options: str) -> int:
    (folder / "own.yaml").write_text(CONFIG.format(model=model))
    return main([command, "--config", "own.yaml", *options])


def truth(key: str) -> float:
    """The toy's signal of a scene, as `toy_problem.Signals` draws it."""
    return torch.rand(5, generator=generator_for("toy", key, seed=0))[4].item()


@pytest.mark.parametrize(("model", "samples"), [("Descent", 2), ("Means", 1)])
def test_it_predicts_and_goes_on_where_it_stopped(
    own: Path, model: str, samples: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(own, "predict", model) == 0
    written = sorted(own.glob("predictions/*/*/sample.npz"))
    assert len(written) == 3 * samples
    for path in written:
        with np.load(path) as arrays:
            np.testing.assert_allclose(arrays["signal"].item(), truth(path.parts[-3]), atol=1e-3)
    times = [path.stat().st_mtime_ns for path in written]
    assert run(own, "predict", model) == 0
    assert [path.stat().st_mtime_ns for path in written] == times
    capsys.readouterr()
    setting = {"Descent": "steps", "Means": "shift"}[model]
    assert run(own, "predict", model, f"--model.{setting}", "1") == 2
    assert setting in capsys.readouterr().err


@pytest.mark.parametrize(("model", "score"), [("Descent", "rmse_mean"), ("Means", "error")])
def test_it_is_tested(own: Path, model: str, score: str) -> None:
    assert run(own, "test", model) == 0
    report = json.loads((own / "report" / "report.json").read_text())
    assert list(report["scenes"]) == ["test0", "test1", "test2"]
    assert report["average"]["all"][score] < 1e-3


@pytest.mark.parametrize("command", ["test", "predict"])
def test_what_draws_nothing_is_refused_in_one_line(
    own: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(own, command, "Silent") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("dfm: ")
    for name in ("Silent", "plan", "predictions", "PredictingModule"):
        assert name in error


def test_predictions_of_another_kind_are_refused_in_one_line(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(own, "predict", "Wrong") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "predict_step of Wrong gave a Tensor" in error
    assert not list(own.glob("predictions/*/*"))
