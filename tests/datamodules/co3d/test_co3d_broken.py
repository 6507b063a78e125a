"""Broken files and cameras, and mistakes of the user."""

import gzip
import logging
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import ExifTags, Image
from posed_settings import made
from small_co3d import FRAMES, edit_frames, module, train_batches

from datamodules.co3d import Co3DDataModule
from datamodules.co3d.inspection import inspect_root
from datamodules.co3d.verification import verify_root
from dfm_lightning.errors import UserError


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:400])


def blacken(path: Path) -> None:
    Image.new("RGB", Image.open(path).size).save(path)


def image_file(root: Path, sequence: int, frame: int) -> Path:
    return root / "toy" / f"toy_{sequence:04d}" / "images" / f"frame{frame + 1:06d}.jpg"


@pytest.mark.parametrize("damage", [truncate, Path.unlink, blacken], ids=["truncated", "missing", "black"])
def test_unreadable_frames_are_replaced_and_counted_in_training(
    own_root: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    for sequence in range(4):
        for frame in (0, 5, 9):
            damage(image_file(own_root, sequence, frame))
    data = module(own_root)
    with caplog.at_level(logging.WARNING):
        batches = train_batches(data, 10)
    assert all(batch.target.observation.max() > -0.9 for batch in batches)
    assert data.replaced_draws > 0
    warned = [record.getMessage() for record in caplog.records if "frame0000" in record.getMessage()]
    assert warned
    assert len(set(warned)) == len(warned)
    with pytest.warns(UserWarning, match="frame"):
        data.teardown("fit")


def test_replacements_in_workers_are_counted_too(own_root: Path) -> None:
    for frame in range(0, FRAMES, 2):
        truncate(image_file(own_root, 0, frame))
    alone, workers = module(own_root), module(own_root, workers=2)
    first, second = train_batches(alone, 6), train_batches(workers, 6)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a.target.observation, b.target.observation)
    # Workers read ahead, so theirs may be more.
    assert 0 < alone.replaced_draws <= workers.replaced_draws


@pytest.mark.parametrize(
    ("damage", "workers"),
    [(truncate, 0), (Path.unlink, 0), (blacken, 0), (truncate, 1)],
    ids=["truncated", "missing", "black", "truncated, in a worker"],
)
def test_an_unreadable_test_frame_is_named(own_root: Path, damage: Callable[[Path], None], workers: int) -> None:
    damage(image_file(own_root, 6, FRAMES // 3))
    data = module(own_root, workers=workers)
    with pytest.raises(UserError, match=r"toy_0006/images/frame000005\.jpg") as error:
        list(data.test_dataloader())
    assert "\n" not in str(error.value)
    damage(image_file(own_root, 6, 0))
    with pytest.raises(UserError, match=r"toy_0006/images/frame000001\.jpg"):
        list(data.predict_dataloader())


def set_nan(viewpoint: dict) -> None:
    viewpoint["T"][1] = math.nan


def set_singular(viewpoint: dict) -> None:
    viewpoint["R"] = [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def drop_focal_length(viewpoint: dict) -> None:
    del viewpoint["focal_length"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(set_nan, "not finite"), (set_singular, "singular"), (drop_focal_length, "intrinsics")],
)
def test_bad_cameras(own_root: Path, damage: Callable[[dict], None], reason: str) -> None:
    edit_frames(own_root, lambda frame: damage(frame["viewpoint"]) if frame["frame_number"] in (0, 4) else None)
    data = module(own_root)
    with pytest.warns(UserWarning, match=f"8 frame.*{reason}"):
        (scene, *_) = data.scenes("train")
    assert [scene.sequence.frames[position].number for position in scene.frames] == [1, 2, 3, *range(5, FRAMES)]
    for batch in train_batches(data, 4):
        assert all(tensor.isfinite().all() for tensor in (*batch.context.params, *batch.target.params))
    with pytest.raises(UserError, match=reason), pytest.warns(UserWarning, match=reason):
        list(data.test_dataloader())
    assert reason in str(inspect_root(own_root))


def test_a_scene_without_a_readable_frame_gives_way_to_others(own_root: Path) -> None:
    for frame in range(FRAMES):
        truncate(image_file(own_root, 0, frame))
    data = module(own_root)
    keys = {key for batch in train_batches(data, 8) for key in batch.key}
    assert keys == {"toy_0001", "toy_0002", "toy_0003"}
    for sequence in (1, 2, 3):
        for frame in range(FRAMES):
            image_file(own_root, sequence, frame).unlink()
    with pytest.raises(UserError, match="training"):
        train_batches(module(own_root), 1)


def test_short_sequences_are_skipped_by_name(own_root: Path) -> None:
    def drop(frame: dict) -> None:
        if frame["sequence_name"] == "toy_0002" and frame["frame_number"] > 1:
            frame["viewpoint"] = None

    edit_frames(own_root, drop)
    with pytest.warns(UserWarning, match=r"1 sequence.*\b3\b.*frames"):
        scenes = module(own_root).scenes("train")
    assert [scene.sequence.name for scene in scenes] == ["toy_0000", "toy_0001", "toy_0003"]


def test_verify_finds_every_broken_file(own_root: Path) -> None:
    assert verify_root(own_root) == []
    truncate(image_file(own_root, 0, 3))
    image_file(own_root, 1, 0).unlink()
    truncate(own_root / "toy" / "toy_0002" / "depths" / "frame000002.jpg.geometric.png")
    (own_root / "toy" / "toy_0003" / "masks" / "frame000004.png").write_bytes(b"not a picture")
    edit_frames(own_root, lambda f: set_nan(f["viewpoint"]) if f["sequence_name"] == "toy_0004" else None)
    problems = [str(problem) for problem in verify_root(own_root)]
    for part in ("toy_0000/images/frame000004.jpg", "toy_0001/images/frame000001.jpg: no such file"):
        assert sum(part in problem for problem in problems) == 1
    assert sum("toy_0002/depths/frame000002" in problem for problem in problems) == 1
    assert sum("toy_0003/masks/frame000004.png" in problem for problem in problems) == 1
    assert sum("not finite" in problem for problem in problems) == FRAMES
    assert len(problems) == 4 + FRAMES


# --- mistakes of the user ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": "nowhere"}, "no folder"),
        ({"category": "banana"}, "no category 'banana'; it has: toy"),
        ({"subset": "manyview"}, "no subset 'manyview'; it has: fewview_dev, fewview_train"),
        ({"subset": "fewview_train"}, "no test scene"),
        ({"views": {"distance": (5, 2)}}, "distance"),
        ({"views": {"contexts": 0}}, "contexts"),
        ({"training": {"scale_augmentation": 0.5}}, "scale_augmentation"),
    ],
)
def test_wrong_settings_end_in_one_line(synthetic_root: Path, options: dict, message: str) -> None:
    usual = {"root": str(synthetic_root), "category": "toy"}
    # (The command line says in one line what a constructor refuses by a ValueError.)
    with pytest.raises((UserError, ValueError), match=message) as error:
        made(Co3DDataModule, usual, **options).test_dataloader()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"{", mtime=0), gzip.compress(b"{}", mtime=0)])
def test_damaged_annotations_are_named(own_root: Path, content: bytes) -> None:
    (own_root / "toy" / "frame_annotations.jgz").write_bytes(content)
    with pytest.raises(UserError, match=r"frame_annotations\.jgz.*JSON"):
        module(own_root).test_dataloader()


def test_unknown_keys_are_ignored_and_the_prefix_of_version_2_is_stripped(own_root: Path) -> None:
    prefix = "/large_experiments/p3/replay/datasets/co3d/co3d45k_220512/export_v23/"

    def change(frame: dict) -> None:
        frame["something"] = {"new": 1}
        frame["mask"]["path"] = prefix + frame["mask"]["path"]

    edit_frames(own_root, change)
    assert len(list(module(own_root, evaluation={"masks": True}).test_dataloader())) == 3


def test_inspection_counts_everything(synthetic_root: Path) -> None:
    report = inspect_root(synthetic_root)
    (category,) = report.categories
    assert category.subsets["fewview_dev"] == {"train": (4, 48), "val": (1, 12), "test": (3, 36)}
    assert {each.scale.source for each in category.sequences} == {"depth"}
    text = str(report)
    assert "8 sequences, 96 frames" in text
    assert "toy_0003: 12 frames of 40×48, 12 with depth, 12 with mask" in text


def test_frames_are_turned_as_their_annotation_wants(own_root: Path) -> None:
    """Upright by EXIF's orientation where the annotated size is that of the upright picture, else as stored."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    shown = [batch.target.observation for batch in module(own_root).test_dataloader()]
    for file in own_root.glob("toy/*/images/*.jpg"):
        picture = Image.open(file)
        picture.load()
        picture.transpose(Image.Transpose.ROTATE_90).save(file, quality=98, exif=exif)
    turned = [batch.target.observation for batch in module(own_root).test_dataloader()]
    for one, other in zip(shown, turned, strict=True):
        assert (one - other).abs().mean() < 0.05
    edit_frames(own_root, lambda frame: frame["image"]["size"].reverse())
    stored = [batch.target.observation for batch in module(own_root).test_dataloader()]
    for one, other in zip(shown, stored, strict=True):
        assert (one.rot90(1, (-2, -1)) - other).abs().mean() < 0.05


def test_depths_that_are_pictures_are_refused(own_root: Path) -> None:
    for number, mode in enumerate(("L", "F", "RGB")):
        path = own_root / "toy" / "toy_0002" / "depths" / f"frame00000{number + 1}.jpg.geometric.png"
        Image.new(mode, (40, 48)).save(path, "TIFF")
    assert sum("one channel of 16 bits" in str(problem) for problem in verify_root(own_root)) == 3
