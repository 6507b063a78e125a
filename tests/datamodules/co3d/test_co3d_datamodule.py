"""`Co3DDataModule` on synthetic data: batches, requests, choice and scale of scenes."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_co3d import FRAMES, edit_frames, module, train_batches

from datamodules import loading
from datamodules.co3d.annotations import read_category
from datamodules.co3d.scales import CACHE_FILE, compute_scale
from datamodules.co3d.scenes import best_sequences
from datamodules.co3d.sequences import build_sequences

# --- batches ----------------------------------------------------------------------------------------------


def test_a_training_batch_has_all_its_parts(synthetic_root: Path) -> None:
    batch = next(iter(module(synthetic_root, views={"novel": 3}).train_dataloader()))
    for views, count in ((batch.context, 2), (batch.target, 1), (batch.novel, 3)):
        assert views.observation.shape == (2, count, 3, 16, 16)
        assert views.params.camera_to_world.shape == (2, count, 4, 4)
        assert views.params.pixels.shape == (2, count, 16, 16, 2)
        assert views.observation.abs().max() <= 1
    torch.testing.assert_close(batch.context.params.camera_to_world[:, 0], torch.eye(4).expand(2, 4, 4))
    # Absolute and relative poses tell the same.
    first = batch.context.params.absolute_pose[:, :1]
    torch.testing.assert_close(
        first @ batch.novel.params.camera_to_world, batch.novel.params.absolute_pose, atol=1e-4, rtol=1e-4
    )
    assert set(batch.key) <= {f"toy_{number:04d}" for number in range(4)}


def test_no_novel_views_are_zero_views(synthetic_root: Path) -> None:
    batch = next(iter(module(synthetic_root, views={"novel": 0}).train_dataloader()))
    assert batch.novel.observation.shape == (2, 0, 3, 16, 16)
    assert batch.novel.params.camera_to_world.shape == (2, 0, 4, 4)


def test_batches_are_a_function_of_the_seed_whatever_the_workers(
    synthetic_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = train_batches(module(synthetic_root), 6)
    workers = train_batches(module(synthetic_root, workers=2), 6)
    for first, second in zip(alone, workers, strict=True):
        torch.testing.assert_close(first.context.observation, second.context.observation)
        torch.testing.assert_close(first.novel.params, second.novel.params)
    # Three epochs of two batches: none shows what another did.
    assert len({float(batch.target.observation.sum()) for batch in alone}) == 6
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    other = train_batches(module(synthetic_root), 1)[0]
    assert not torch.equal(other.target.observation, alone[0].target.observation)


def test_scale_augmentation_scales_lengths_alone(synthetic_root: Path) -> None:
    def distances(augmentation: float) -> torch.Tensor:
        batches = train_batches(module(synthetic_root, training={"scale_augmentation": augmentation}), 20)
        return torch.cat([batch.context.params.absolute_pose[:, 0, :3, 3].norm(dim=1) for batch in batches])

    factor = distances(1.5) / distances(1.0)
    assert (factor.max() <= 1.5 + 1e-4) & (factor.min() >= 1 / 1.5 - 1e-4)
    assert factor.log().std() == pytest.approx(math.log(1.5) / math.sqrt(3), rel=0.35)


def test_draws_per_scene_lengthen_the_epoch(synthetic_root: Path) -> None:
    assert len(module(synthetic_root).train_dataloader()) == 2
    assert len(module(synthetic_root, training={"draws_per_scene": 5}).train_dataloader()) == 10


def test_test_views_are_those_of_the_evaluation_batches(synthetic_root: Path) -> None:
    data = module(synthetic_root, evaluation={"novel": 4, "masks": True})
    batches = list(data.test_dataloader())
    assert [batch.key[0] for batch in batches] == ["toy_0005", "toy_0006", "toy_0007"]
    for batch, scene in zip(batches, data.scenes("test"), strict=True):
        poses = scene.poses(10.0)
        torch.testing.assert_close(batch.context.params.absolute_pose[0, 0], poses[0])
        torch.testing.assert_close(batch.target.params.absolute_pose[0, 0], poses[FRAMES // 3])
        assert batch.novel.observation.shape == (1, 4, 3, 16, 16)
        assert batch.truth["novel_mask"].shape == (1, 4, 1, 16, 16)
        # The object is in the middle of the mask, about: the camera is not quite aimed at it.
        assert batch.truth["context_mask"][..., 6:10, 6:10].mean() > 0.7
        assert batch.truth["context_mask"][..., :2].mean() < 0.2


@pytest.mark.parametrize("world", [1, 2, 4])
def test_each_test_scene_is_read_in_one_process(
    synthetic_root: Path, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    for rank in range(world):
        monkeypatch.setattr(loading, "processes", lambda rank=rank: (world, rank))
        data = module(synthetic_root)
        keys += [batch.key[0] for batch in data.test_dataloader()]
        keys += [request.key[0] for request in data.predict_dataloader()]
    assert sorted(keys) == sorted(2 * ["toy_0005", "toy_0006", "toy_0007"])


@pytest.mark.parametrize("trajectory", ["circle", "dataset", "interpolation"])
def test_requests_begin_at_the_context_and_go_around(synthetic_root: Path, trajectory: str) -> None:
    data = module(synthetic_root, prediction={"trajectory": trajectory, "frames": 24, "size": 20})
    request = next(iter(data.predict_dataloader()))
    cameras = request.params
    assert request.context.observation.shape == (1, 1, 3, 16, 16)
    assert cameras.camera_to_world.shape == (1, 24, 4, 4)
    assert cameras.pixels.shape == (1, 24, 20, 20, 2)
    torch.testing.assert_close(request.context.params.camera_to_world[0, 0], torch.eye(4))
    # The path sways: the circle's first camera is near the context, the others' is the context itself.
    assert cameras.camera_to_world[0, 0, :3, 3].norm() < (2.0 if trajectory == "circle" else 1e-4)
    # Seen from above, the cameras visit all sides of the object.
    position = cameras.absolute_pose[0, :, :3, 3]
    assert len(torch.atan2(position[:, 0], position[:, 2]).div(math.pi / 2).floor().unique()) == 4


def test_mean_image_is_the_mean_of_training_frames(synthetic_root: Path) -> None:
    images = []
    for number in range(4):
        for path in sorted((synthetic_root / "toy" / f"toy_{number:04d}" / "images").iterdir()):
            square = Image.open(path).convert("RGB").crop((0, 4, 40, 44))
            images.append(np.asarray(square.resize((16, 16), Image.Resampling.BICUBIC), float))
    expected = torch.from_numpy(np.mean(images, axis=0)).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(module(synthetic_root).mean_image().double(), expected, atol=0.01, rtol=0)


# --- choice and scale -------------------------------------------------------------------------------------


def test_best_sequences_by_quality() -> None:
    quality = {"a": 0.1, "b": None, "c": 0.9, "d": math.nan, "e": -1.0}
    assert best_sequences(list("edcba"), quality, 2) == ["a", "c"]
    assert best_sequences(list("edcba"), quality, 4) == ["a", "b", "c", "e"]
    assert best_sequences(list("ba"), {}, None) == ["a", "b"]


def test_train_scenes_are_the_best(synthetic_root: Path) -> None:
    quality = read_category(synthetic_root, "toy").quality
    best = sorted((f"toy_{number:04d}" for number in range(4)), key=lambda name: -(quality[name] or 0))[:2]
    scenes = module(synthetic_root, scenes={"train": 2}).scenes("train")
    assert [scene.sequence.name for scene in scenes] == sorted(best)


def test_scale_is_the_median_depth(synthetic_root: Path) -> None:
    """By reading the files anew: bits as half floats, times the adjustment, where the mask is set."""
    sequence = build_sequences(synthetic_root, "toy", read_category(synthetic_root, "toy"))["toy_0001"]
    folder = synthetic_root / "toy" / "toy_0001"
    adjustment = sequence.frames[0].depth.scale_adjustment if sequence.frames[0].depth else math.nan
    medians = []
    for path in sorted((folder / "depths").iterdir()):
        bits = np.asarray(Image.open(path)).astype(np.uint16).view(np.float16).astype(float)
        mask = np.asarray(Image.open(folder / "depth_masks" / path.name.replace(".jpg.geometric", "")))
        medians.append(np.median(bits[mask]) * adjustment)
    scale, _ = compute_scale(synthetic_root, sequence)
    assert scale.source == "depth"
    # (It looks at ten of these twelve depth maps.)
    assert scale.value == pytest.approx(np.median(medians), rel=0.05)


def test_without_depth_the_scale_is_the_cameras_distance(own_root: Path) -> None:
    edit_frames(own_root, lambda frame: frame.update(depth=None))
    scene = module(own_root).scenes("train")[0]
    assert scene.scale.source == "cameras"
    # The point nearest to all optical axes, by plain least squares over the axes' normal equations.
    poses = scene.sequence.camera_to_world.double().numpy()
    projections = [np.eye(3) - np.outer(axis, axis) for axis in poses[:, :3, 2]]
    offsets = [projection @ pose[:3, 3] for projection, pose in zip(projections, poses, strict=True)]
    focus = np.linalg.lstsq(np.concatenate(projections), np.concatenate(offsets))[0]
    distances = np.linalg.norm(poses[:, :3, 3] - focus, axis=1)
    assert np.sort(distances)[5] <= scene.scale.value * (1 + 1e-5) <= np.sort(distances)[6] * (1 + 2e-5)
    assert scene.poses(7.0)[0, 0, 3] == pytest.approx(poses[0, 0, 3] * 7 / scene.scale.value)


def test_scales_are_kept_and_read_again(own_root: Path) -> None:
    value = module(own_root).scenes("train")[0].scale.value
    path = own_root / "toy" / CACHE_FILE
    cache = json.loads(path.read_text())
    assert cache["scales"]["toy_0000"] == {"scale": value, "source": "depth"}
    cache["scales"]["toy_0000"]["scale"] = 123.0
    path.write_text(json.dumps(cache))
    assert module(own_root).scenes("train")[0].scale.value == 123.0
    # Other annotations: the file is not theirs.
    edit_frames(own_root, lambda frame: frame.update(meta="changed"))
    assert module(own_root).scenes("train")[0].scale.value == value
    path.write_text("{ damaged")
    assert module(own_root).scenes("train")[0].scale.value == value


def test_scales_in_a_folder_of_their_own(own_root: Path, tmp_path: Path) -> None:
    (own_root / "toy" / CACHE_FILE).unlink(missing_ok=True)
    module(own_root, cache_dir=str(tmp_path / "cache")).scenes("val")
    assert (tmp_path / "cache" / "toy" / CACHE_FILE).exists()
    assert not (own_root / "toy" / CACHE_FILE).exists()


def test_scenes_of_any_unit_look_alike_once_scaled(synthetic_root: Path) -> None:
    """The writer gives each scene a unit of its own, up to a factor of seven apart."""
    distances = [
        float(scene.poses(10.0)[:, :3, 3].norm(dim=1).mean()) for scene in module(synthetic_root).scenes("train")
    ]
    assert max(distances) / min(distances) < 1.4
