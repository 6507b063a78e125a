"""A working directory as a user has it: classes of their own, a config, data."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from toy_runs import Run

from dfm_lightning.cli import main

CONFIG = """
trainer:
  accelerator: cpu
  max_steps: 20
  val_check_interval: 5
  check_val_every_n_epoch: null
  num_sanity_val_steps: 0
  enable_model_summary: false
  callbacks:
  - class_path: EMAWeightAveraging
    init_args: {decay: 0.9}
  - class_path: ModelCheckpoint
    init_args: {every_n_train_steps: 10, save_top_k: -1, filename: "{step}", auto_insert_metric_name: false}
model:
  class_path: toy_problem.Task
  init_args:
    denoiser: {class_path: toy_problem.LinearDenoiser, init_args: {width: 6}}
    forward_model: {class_path: toy_problem.Slope}
    sampler: {class_path: DDIM, init_args: {steps: 2}}
    optimizer: {class_path: AdamWithWarmup, init_args: {learning_rate: 0.01, warmup_steps: 5}}
data:
  class_path: toy_problem.ToyData
  init_args: {root: data}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with `toy_problem.py`, `toy.yaml` and the data that it names."""
    shutil.copy(Path(__file__).parents[1] / "toy_problem.py", tmp_path)
    (tmp_path / "toy.yaml").write_text(CONFIG)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "index.txt").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    yield tmp_path
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)


@pytest.fixture
def run(folder: Path) -> Run:
    """Runs `dfm COMMAND --config toy.yaml ...`, and gives the folder of the run."""

    def run_toy(command: str, *arguments: str) -> Path:
        assert main([command, "--config", "toy.yaml", *arguments]) == 0
        runs = sorted(
            (folder / "runs" / "toy").iterdir(), key=lambda path: int(path.name.removeprefix("version_"))
        )
        return runs[-1]

    return run_toy


@pytest.fixture
def settings(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """The settings that `dfm` resolves from its arguments."""

    def resolve(*arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*arguments, "--print_config"]) == 0
        return yaml.safe_load(capsys.readouterr().out)

    return resolve
