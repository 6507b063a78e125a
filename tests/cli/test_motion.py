"""Motion prediction by the command line: the shipped configs, and all of it on a model that is next to nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dfm_lightning.cli import main
from dfm_lightning.cli.configs import find_config

# The demo made smaller still.
TINY = """
model:
  init_args:
    denoiser: {init_args: {width: 16, depth: 1, heads: 2}}
    sampler: {init_args: {steps: 2}}
    samples: 3
data:
  init_args: {root: clips, crop_size: [16, 24], batch_size: 2, val_clips: 1, predict_clips: 1, predict_frames: 3,
              novel_frames: 1}
trainer:
  devices: 1
  strategy: auto
  max_steps: 2
  num_sanity_val_steps: 0
  limit_val_batches: 1
  val_check_interval: null
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
  - {class_path: ModelCheckpoint, init_args: {dirpath: fit, every_n_train_steps: 2, save_last: true}}
  - {class_path: dfm_lightning.callbacks.MotionReport, init_args: {output: test}}
  - {class_path: dfm_lightning.callbacks.MotionWriter, init_args: {output: predict}}
"""
CONFIGS = ["-c", "vimeo90k_demo", "-c", "tiny.yaml"]
WEIGHTS = ["--ckpt_path", "fit/last.ckpt"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clips, the tiny config, and a model trained with it."""
    folder = tmp_path_factory.mktemp("motion")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("PL_GLOBAL_SEED", raising=False)
        (folder / "tiny.yaml").write_text(TINY)
        sizes = ["--train_clips", "4", "--test_clips", "2", "--height", "24", "--width", "32"]
        assert main(["data", "make-clips", "clips", *sizes]) == 0
        assert main(["fit", *CONFIGS]) == 0
    return folder


@pytest.fixture
def folder(trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(trained)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return trained


def test_clips_are_inspected_and_verified(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", "clips"]) == 0
    assert "septuplets, 7 frames each" in capsys.readouterr().out
    assert main(["data", "verify", "clips"]) == 0
    assert "every file can be used" in capsys.readouterr().out


def test_test_reports_scores_and_directions(folder: Path) -> None:
    assert main(["test", *CONFIGS, *WEIGHTS]) == 0
    report = json.loads((folder / "test" / "report.json").read_text())
    assert set(report["average"]) == {"target", "novel"}
    assert {"psnr_best", "ssim_mean", "holes", "spread", "epe_best", "epe_no_motion"} <= set(
        report["average"]["target"]
    )
    assert set(report["joint"]) == {"0°", "180°", "undecided"}
    assert report["settings"]["scenes"] == 2


def test_predict_moves_clips_and_a_photograph_of_ones_own(folder: Path, tmp_path: Path) -> None:
    assert main(["predict", *CONFIGS, *WEIGHTS]) == 0
    (scene,) = (path for path in (folder / "predict").iterdir() if path.is_dir())
    assert {path.name for path in scene.iterdir()} == {"sample_00", "sample_01", "sample_02", "samples.png"}
    files = {"flow.flo", "flow.png", "warped.png", "motion.mp4", "context_00.png", "sample.json"}
    assert {path.name for path in (scene / "sample_01").iterdir()} == files

    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine.jpg")
    assert main(["predict", *CONFIGS, *WEIGHTS, "--data.image", str(tmp_path / "mine.jpg")]) == 0
    with Image.open(folder / "predict" / "mine" / "sample_00" / "warped.png") as warped:
        assert warped.size == (24, 16)


def test_a_clip_that_cannot_be_read_ends_the_test_with_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = folder / "clips" / "sequences" / "00001" / "0006" / "im1.png"
    content = frame.read_bytes()
    frame.write_bytes(content[:60])
    try:
        assert main(["test", *CONFIGS, *WEIGHTS]) == 2
    finally:
        frame.write_bytes(content)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "0006/im1.png: " in error


def test_the_regression_is_the_same_model_without_its_target(folder: Path) -> None:
    out = folder / "regression"
    overlay = folder / "overlay.yaml"
    settings = yaml.safe_load(find_config("vimeo90k_demo_regression").read_text())
    settings["trainer"] = yaml.safe_load(TINY)["trainer"]
    settings["trainer"]["callbacks"] = [
        {"class_path": "dfm_lightning.callbacks.MotionReport", "init_args": {"output": str(out)}}
    ]
    overlay.write_text(yaml.safe_dump(settings))
    assert main(["test", *CONFIGS, "-c", "overlay.yaml"]) == 0
    assert json.loads((out / "report.json").read_text())["average"]["target"]["flow_spread"] == 0


@pytest.mark.parametrize("name", ["vimeo90k", "vimeo90k_demo"])
def test_the_shipped_configs_build_their_model(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--model.denoiser.width", "32", "--model.denoiser.heads", "2", "--model.denoiser.depth", "1"]
    assert main(["fit", "-c", name, *small, "--print_config"]) == 0
    assert "MotionPrediction" in capsys.readouterr().out
    settings = yaml.safe_load(find_config(name).read_text())
    if name == "vimeo90k":
        assert settings["data"]["init_args"]["batch_size"] * 2 == 72
        assert settings["model"]["init_args"]["optimizer"]["init_args"]["learning_rate"] == 2e-5
        assert settings["model"]["init_args"]["sampler"]["init_args"]["steps"] == 50
