"""RealEstate10k by the command line: the shipped configs, and all of it on a model that is next to nothing."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import ExifTags, Image

from datamodules.posed.camera_files import CameraPath, read_camera_file, write_camera_file
from datamodules.synthetic.rooms import write_synthetic_rooms
from dfm_lightning.cli import main
from dfm_lightning.cli.configs import find_config
from dfm_lightning.geometry.cameras import flip_opengl_opencv

REAL_PATH = Path(__file__).parents[1] / "data" / "realestate10k" / "000eb6240f06dd5a.txt"
# The demo made smaller still; token positions are counted for 16 pixels, as those of the paper are for 64.
TINY = """
model:
  init_args:
    denoiser:
      init_args:
        encoder:
          init_args: {width: 16, depth: 1, heads: 2, feature_channels: 16, estimate_features: 2, stem_channels: 4,
                      skip_channels: 4, position_grid: 4}
        estimate_renderer: {init_args: {coarse_samples: 4}}
        mlp_width: 16
        mlp_blocks: 2
        mlp_blocks_per_view: 1
        octaves: 2
    forward_model: {init_args: {coarse_samples: 4, fine_samples: 4, patch_size: 6}}
    sampler: {init_args: {steps: 2}}
    warm_start_steps: 1
    samples: 2
data:
  init_args: {root: rooms, evaluation: {index: rooms/evaluation_index.json}, image_size: 16,
              scenes: {val: 1}, prediction: {frames: 5, size: 16}}
trainer:
  devices: 1
  strategy: auto
  max_steps: 3
  num_sanity_val_steps: 0
  limit_val_batches: 0
  val_check_interval: null
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
  - {class_path: ModelCheckpoint, init_args: {dirpath: fit, every_n_train_steps: 3, save_last: true}}
  - {class_path: dfm_lightning.callbacks.SceneReport, init_args: {output: test}}
  - {class_path: dfm_lightning.callbacks.SceneWriter, init_args: {output: predict}}
"""
CONFIGS = ["-c", "realestate10k_demo_pixelnerf", "-c", "tiny.yaml"]
WEIGHTS = ["--ckpt_path", "fit/last.ckpt"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rooms, a config and a checkpoint."""
    folder = tmp_path_factory.mktemp("realestate10k")
    (folder / "tiny.yaml").write_text(TINY)
    write_synthetic_rooms(folder / "rooms", train_scenes=3, test_scenes=2, frames=12, height=24, empty=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TORCH_HOME", str(folder / "no weights"))
        assert main(["fit", *CONFIGS]) == 0
    return folder


@pytest.fixture
def folder(trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(trained)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return trained


def predict(folder: Path, name: str, *options: str) -> Path:
    """Predict into a folder of its own, and give it."""
    # The last of the callbacks is the writer.
    output = ["--trainer.callbacks.output", name]
    assert main(["predict", *CONFIGS, *WEIGHTS, *options, *output]) == 0
    return folder / name


def predicted_poses(sample: Path) -> torch.Tensor:
    """Camera-to-world poses (OpenCV axes) of a sample's frames."""
    frames = json.loads((sample / "transforms.json").read_text())["frames"]
    return flip_opengl_opencv(torch.tensor([frame["transform_matrix"] for frame in frames]).double())


# --- the shipped configs ----------------------------------------------------------------------------------


def resolved(capsys: pytest.CaptureFixture[str], *configs: str) -> dict[str, Any]:
    capsys.readouterr()
    arguments = [part for config in configs for part in ("-c", config)]
    assert main(["fit", *arguments, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_the_papers_settings(capsys: pytest.CaptureFixture[str]) -> None:
    settings = resolved(capsys, "realestate10k")
    model, data = settings["model"]["init_args"], settings["data"]["init_args"]
    denoiser = model["denoiser"]["init_args"]
    encoder = denoiser["encoder"]["init_args"]
    assert (encoder["width"], encoder["depth"], encoder["heads"]) == (1152, 28, 16)
    assert encoder["absolute_pose"] is False
    assert denoiser["estimate_renderer"]["init_args"]["coarse_samples"] == 32
    # They stand once: the estimate's renderer takes the forward model's.
    assert denoiser["estimate_renderer"]["init_args"]["near"] is None
    assert denoiser["estimate_renderer"]["init_args"]["far"] is None
    assert model["context_dropout"] == 0.1
    assert model["guidance_scale"] == 2.0
    sampler = model["sampler"]["init_args"]
    assert (sampler["steps"], sampler["temperature"], sampler["eta"]) == (50, 0.85, 0.0)
    assert (data["image_size"], data["views"]["init_args"]["distance"]) == (64, [100, 180])
    assert encoder["position_grid"] * 4 == data["image_size"]


def test_the_overlay_changes_the_resolution_and_no_weight(capsys: pytest.CaptureFixture[str]) -> None:
    base = resolved(capsys, "realestate10k")
    tuned = resolved(capsys, "realestate10k", "realestate10k_finetune_128")
    assert tuned["data"]["init_args"]["image_size"] == 128
    assert tuned["model"]["init_args"]["denoiser"] == base["model"]["init_args"]["denoiser"]
    assert tuned["model"]["init_args"]["warm_start_steps"] == 0


@pytest.mark.slow
def test_fine_tuning_at_twice_the_resolution_carries_everything_over(folder: Path) -> None:
    twice = ["--data.image_size", "32", "--model.warm_start_steps", "0", "--model.optimizer.learning_rate", "0"]
    output = ["--trainer.callbacks.dirpath", "tuned"]
    (folder / "callbacks.yaml").write_text(
        "trainer: {callbacks: [{class_path: ModelCheckpoint, init_args: {dirpath: tuned, save_last: true}}]}"
    )
    options = ["-c", "callbacks.yaml", "--initial_weights", "fit/last.ckpt"]
    assert main(["fit", *CONFIGS, *options, *twice, *output]) == 0
    before, after = (torch.load(folder / name / "last.ckpt", weights_only=True) for name in ("fit", "tuned"))
    assert list(before["state_dict"]) == list(after["state_dict"])
    for name, value in before["state_dict"].items():
        assert torch.equal(value, after["state_dict"][name]), name
    assert after["dfm_config"]["data"]["init_args"]["image_size"] == 32
    assert after["global_step"] == 3
    assert main(["predict", *CONFIGS, "--ckpt_path", "tuned/last.ckpt", "--data.image_size", "32",
                 "--data.prediction.size", "32", "--data.scenes.test", "1", "--model.samples", "1",
                 "--trainer.callbacks.output", "large"]) == 0  # fmt: skip
    assert len(list((folder / "large").glob("*/sample_00/video.mp4"))) == 1


# --- test -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_protocol_of_an_index_in_one_command(folder: Path) -> None:
    assert main(["test", *CONFIGS, *WEIGHTS]) == 0
    report = json.loads((folder / "test" / "report.json").read_text())
    index = json.loads((folder / "rooms" / "evaluation_index.json").read_text())
    assert set(report["scenes"]) == set(index)
    assert report["settings"]["resolution"] == [16, 16]
    for scores in report["scenes"].values():
        # The entry's second context is not given (one context view): three targets, the farthest of them diffused.
        assert set(scores) == {"context", "target", "novel"}
        assert all(math.isfinite(value) for values in scores.values() for value in values.values())
    # Without the weights of others, what needs them is said to be missing, not left out in silence.
    assert {"lpips", "fid", "kid"} <= set(report["missing"])
    assert "FID" in (folder / "test" / "index.html").read_text().upper()
    sheet = Image.open(next((folder / "test" / "sheets").iterdir()))
    assert sheet.width > 4 * 16


# --- predict ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_path_is_the_scenes_own_or_made_from_it(folder: Path) -> None:
    one = ["--data.scenes.test", "1", "--model.samples", "1"]
    poses = {}
    for kind in ("dataset", "interpolation", "extrapolation"):
        (sample,) = predict(folder, kind, *one, "--data.prediction.trajectory", kind).glob("*/sample_00")
        poses[kind] = predicted_poses(sample)
        assert poses[kind].shape == (5, 4, 4)
        torch.testing.assert_close(poses[kind][0], torch.eye(4).double(), atol=1e-6, rtol=0)
    key = sample.parent.name
    scene, _ = read_camera_file(folder / "rooms" / "test" / f"{key}.txt").cameras()
    # The index diffuses frame 10 of 12: the path goes from frame 0 to it.
    own = scene[0].inverse() @ scene[:11]
    torch.testing.assert_close(poses["dataset"][-1], own[-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(poses["interpolation"][-1], own[-1], atol=1e-5, rtol=0)
    beyond = poses["extrapolation"][-1, :3, 3]
    assert beyond.norm() > own[-1, :3, 3].norm()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["txt", "json"])
def test_the_path_comes_from_a_file(form: str, folder: Path, tmp_path: Path) -> None:
    given, _ = read_camera_file(REAL_PATH).cameras()
    path = REAL_PATH
    if form == "json":
        path = tmp_path / "path.json"
        frames = [{"transform_matrix": pose.tolist()} for pose in flip_opengl_opencv(given)]
        path.write_text(json.dumps({"frames": frames}))
    options = [
        "--data.prediction.trajectory",
        str(path),
        "--data.prediction.scale",
        "2",
        "--data.scenes.test",
        "1",
    ]
    (sample,) = predict(folder, f"file {form}", *options, "--model.samples", "1").glob("*/sample_00")
    chosen = [0, 11, 22, 34, 45]
    expected = given[0].inverse() @ given[chosen]
    expected[:, :3, 3] *= 2
    torch.testing.assert_close(predicted_poses(sample), expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_path_that_cannot_be_used_is_refused_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = read_camera_file(REAL_PATH)
    numbers = broken.numbers.clone()
    numbers[3, 7] = math.nan
    write_camera_file(tmp_path / "nan.txt", CameraPath(broken.url, broken.timestamps, numbers))
    for name, message in (
        (str(tmp_path / "nan.txt"), "1 of 46 lines hold no camera, the first is number 4"),
        ("nowhere.txt", "there is no file nowhere.txt"),
        (str(folder / "tiny.yaml"), "a camera path is a .txt of RealEstate10k or a transforms.json"),
    ):
        assert main(["predict", *CONFIGS, *WEIGHTS, "--data.prediction.trajectory", name]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_capture_is_a_root_for_test_and_predict(workers: str, folder: Path, tmp_path: Path) -> None:
    """With cameras of a real one, whose lens bends, and grey pictures; two of its frames are missing."""
    fox = json.loads((REAL_PATH.parents[1] / "fox_matches.json").read_text())
    (tmp_path / "fox" / "images").mkdir(parents=True)
    (tmp_path / "fox" / "transforms.json").write_text(json.dumps(fox["transforms"]))
    for name in {name for pair in fox["matches"] for name in pair["frames"]}:
        Image.new("RGB", (72, 128), (90, 120, 150)).save(tmp_path / "fox" / name)
    root = ["--data.root", str(tmp_path / "fox"), "--data.evaluation.index", "null", "--data.workers", workers]
    (sample, _) = sorted(predict(folder, f"capture {workers}", *root).glob("fox/sample_*"))
    assert len(predicted_poses(sample)) == 5
    colour = np.asarray(Image.open(sample / "context_00.png")).reshape(-1, 3).mean(axis=0)
    assert colour.tolist() == pytest.approx([90, 120, 150], abs=2)
    # The report is the callback before the writer.
    output = ["--trainer.callbacks", "[]", "--trainer.callbacks+=dfm_lightning.callbacks.SceneReport"]
    assert main(["test", *CONFIGS, *WEIGHTS, *root, *output, "--trainer.callbacks.output", f"fox {workers}"]) == 0
    assert set(json.loads((folder / f"fox {workers}" / "report.json").read_text())["scenes"]) == {"fox"}


def photograph(path: Path, orientation: int) -> Path:
    """An upright picture, red growing to the right and green downward, stored as a camera held so stores it."""
    x, y = np.meshgrid(np.linspace(0, 255, 60), np.linspace(0, 255, 80))
    upright = Image.fromarray(np.stack([x, y, x * 0], axis=-1).astype(np.uint8))
    turns = {1: 0, 6: 90, 3: 180, 8: 270}
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm.value] = 26
    upright.rotate(turns[orientation], expand=True).save(path, exif=exif, quality=95)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("orientation", [6, 3])
def test_a_photograph_with_exif_rotation(orientation: int, folder: Path, tmp_path: Path) -> None:
    path = photograph(tmp_path / f"kitchen {orientation}.jpg", orientation)
    move = [
        "--data.prediction.move.kind",
        "sway",
        "--data.prediction.move.size",
        "0.2",
        "--data.prediction.move.frames",
        "6",
    ]
    output = predict(folder, f"photo {orientation}", "--data.image", str(path), "--data.scene_depth", "2", *move)
    samples = sorted(output.glob("kitchen*/sample_*"))
    assert len(samples) == 2
    for sample in samples:
        assert {path.name for path in sample.iterdir()} >= {
            *("video.mp4", "depth.mp4", "frames", "depth", "depth.json", "transforms.json"),
            *("context_00.png", "sampled_00.png"),
        }
        context = np.asarray(Image.open(sample / "context_00.png")).astype(int)
        assert context[8, 13, 0] > context[8, 2, 0] + 100
        assert context[13, 8, 1] > context[2, 8, 1] + 60
    poses = predicted_poses(samples[0])
    assert len(poses) == 6
    assert poses[:, 0, 3].max() == pytest.approx(0.4 * (1 - math.cos(math.tau * 2 / 5)) / 2, abs=1e-5)
    frames = json.loads((samples[0] / "transforms.json").read_text())
    # 26 mm on film whose diagonal is 43.27 mm, for a picture of 60 × 80 cut to 60 × 60, shown with 16 pixels.
    assert frames["frames"][0]["fl_x"] == pytest.approx(26 / math.hypot(36, 24) * 100 / 60 * 16, rel=1e-5)
    first, second = (np.asarray(Image.open(sample / "sampled_00.png")) for sample in samples)
    assert not np.array_equal(first, second)


@pytest.mark.slow
def test_guidance_of_one_is_no_guidance(folder: Path) -> None:
    """To the last bit: the frames are the same files as those of a model that was never to be guided."""
    one = ["--data.scenes.test", "1", "--model.samples", "1", "--model.guidance_scale"]
    frames = {}
    (folder / "unguided.yaml").write_text(
        re.sub("(?m)^.*guidance.*$", "", find_config("realestate10k_demo_pixelnerf").read_text())
    )
    assert main(["predict", "-c", "unguided.yaml", "-c", "tiny.yaml", *WEIGHTS, *one[:-1],
                 "--trainer.callbacks.output", "unguided"]) == 0  # fmt: skip
    (sample,) = (folder / "unguided").glob("*/sample_00")
    frames["never"] = [path.read_bytes() for path in sorted((sample / "frames").iterdir())]
    for name, scale in (("one", "1.0"), ("guided", "3.0")):
        (sample,) = predict(folder, name, *one, scale).glob("*/sample_00")
        frames[name] = [path.read_bytes() for path in sorted((sample / "frames").iterdir())]
    assert frames["one"] == frames["never"]
    assert frames["one"] != frames["guided"]
