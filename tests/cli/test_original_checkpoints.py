"""Original checkpoints on the command line: converted, used, trained further."""

import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from datamodules.synthetic.rooms import write_synthetic_rooms
from dfm_lightning.cli import main

sys.path.append(str(Path(__file__).parents[1] / "checkpoints"))
from small_original import HEADS, PIXELNERF, SMALL, checkpoint_of, random_state

TINY = """
model:
  init_args:
    denoiser: {init_args: {estimate_renderer: {init_args: {coarse_samples: 4}}}}
    forward_model: {init_args: {coarse_samples: 4, fine_samples: 4, patch_size: 6}}
    sampler: {init_args: {steps: 2}}
    perceptual: null
    samples: 1
data:
  init_args: {root: rooms, image_size: 16, scenes: {val: 1, test: 1}, views: {init_args: {distance: [3, 5]}},
              workers: 0, evaluation: {novel: 1}, prediction: {move: {frames: 3}}}
trainer:
  max_steps: 2
  num_sanity_val_steps: 0
  limit_val_batches: 0
  val_check_interval: null
  logger: false
  accelerator: cpu
  enable_model_summary: false
  callbacks:
  - {class_path: ModelCheckpoint, init_args: {dirpath: fit, every_n_train_steps: 2, save_last: true}}
  - {class_path: dfm_lightning.callbacks.SceneReport, init_args: {output: test}}
  - {class_path: dfm_lightning.callbacks.SceneWriter, init_args: {output: predict}}
"""
CONFIGS = ["-c", "realestate10k_128.yaml", "-c", "tiny.yaml"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a checkpoint of theirs, ours made of it, a photograph and rooms."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    torch.save(checkpoint_of(random_state(SMALL)), "theirs.pt")
    assert main(["convert", "dfm", "theirs.pt", "ours.ckpt", "--heads", str(HEADS)]) == 0
    Image.new("RGB", (40, 30), "olive").save("photo.jpg")
    return tmp_path


def rooms() -> None:
    write_synthetic_rooms(Path("rooms"), train_scenes=3, test_scenes=1, frames=8, height=24, empty=True)


@pytest.mark.slow
def test_a_converted_checkpoint_predicts_from_a_photograph_and_is_tested(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = ["--ckpt_path", "ours.ckpt"]
    assert main(["predict", *CONFIGS, *weights, "--data.image", "photo.jpg"]) == 0
    said = capfd.readouterr().err
    assert "model.denoiser.encoder.width: 1152 → 16" in said
    assert "near" not in said, "what a state does not show is the config's"
    assert len(list((folder / "predict").rglob("frames/*.png"))) == 3
    rooms()
    assert main(["test", *CONFIGS, *weights]) == 0
    assert (folder / "test" / "index.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--ckpt_path", "--initial_weights"])
@pytest.mark.parametrize("stage", ["diffusion", "deterministic"])
def test_training_goes_on_from_a_converted_checkpoint_and_back(
    stage: str, option: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rooms()
    if stage == "deterministic":
        torch.save(checkpoint_of(random_state(PIXELNERF)), "theirs.pt")
        assert main(["convert", "dfm", "theirs.pt", "ours.ckpt", "--heads", str(HEADS)]) == 0
    capfd.readouterr()
    assert main(["fit", *CONFIGS, option, "ours.ckpt"]) == 0
    assert ("holds weights only: a new training starts" in capfd.readouterr().err) == (option == "--ckpt_path")
    before, after = (torch.load(path, weights_only=True) for path in ("ours.ckpt", "fit/last.ckpt"))
    assert after["global_step"] == 2
    moved = [(after["state_dict"][name] - value).abs().max() for name, value in before["state_dict"].items()]
    # Two iterations of a rate that is still rising, each moving a weight by at most about the rate.
    assert 0 < max(moved) < 1e-6
    assert main(["convert", "to-dfm", "fit/last.ckpt", "back.pt"]) == 0
    back = torch.load("back.pt", weights_only=True)["model"]
    assert back["model.enc.pos_embed"].shape == (1, 16, 16)


@pytest.mark.parametrize("name", ["realestate10k_128", "co3d_128"])
def test_the_shipped_configs_can_be_run_in_the_original_code(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of their settings, nothing is refused and nothing noted but near and far."""
    capsys.readouterr()
    assert main(["fit", "--config", name, "--print_config"]) == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    torch.save({"state_dict": {}, "dfm_config": settings}, "empty.ckpt")
    assert main(["convert", "to-dfm", "empty.ckpt", "back.pt"]) == 2
    assert "denoiser.encoder.tokens" in capsys.readouterr().err
