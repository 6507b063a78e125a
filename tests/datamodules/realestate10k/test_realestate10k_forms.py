"""The three forms of RealEstate10k: found by looking, and the same tensors from each."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from posed_settings import made
from small_rooms import FRAMES, HEIGHT, table

from datamodules.posed.camera_files import read_camera_file, write_camera_file
from datamodules.posed.views import read_images
from datamodules.realestate10k import RealEstate10kDataModule
from datamodules.realestate10k.forms import open_reader
from datamodules.synthetic.rooms import write_synthetic_rooms
from dfm_lightning.errors import UserError
from dfm_lightning.types import Batch, map_tensors

DATA = Path(__file__).parents[2] / "data" / "realestate10k"
REAL = DATA / "000eb6240f06dd5a.txt"


def module(root: Path, **options: Any) -> RealEstate10kDataModule:
    usual = {"image_size": 16, "batch_size": 2, "workers": 0, "scenes": {"val": 1}, "views": {"distance": (3, 6)}}
    return made(RealEstate10kDataModule, {"root": str(root), **usual}, **options)


def assert_same(first: Any, second: Any) -> None:
    map_tensors(lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=0) or a, first, second)


def test_a_real_camera_file_is_read_and_written_back() -> None:
    path = read_camera_file(REAL)
    assert path.url == "https://www.youtube.com/watch?v=CC_yttwG2sM"
    assert path.timestamps[:2].tolist() == [232832600, 232865967]
    assert len(path.timestamps) == 46
    np.testing.assert_array_equal(path.numbers.numpy(), table(REAL)[:, 1:])


def test_written_camera_files_have_the_official_text(tmp_path: Path) -> None:
    write_camera_file(tmp_path / "scene.txt", read_camera_file(REAL))
    assert (tmp_path / "scene.txt").read_text().split() == REAL.read_text().split()


def test_cameras_of_a_real_file_project_as_its_lines_say() -> None:
    poses, intrinsics = read_camera_file(REAL).cameras()
    line = table(REAL)[10]
    point = np.array([0.3, -0.2, 4.0, 1.0])
    world_to_camera = line[7:].reshape(3, 4)
    x, y, z = world_to_camera @ point
    expected = [line[1] * x / z + line[3], line[2] * y / z + line[4]]
    seen = intrinsics[10] @ (poses[10].inverse() @ torch.from_numpy(point))[:3]
    np.testing.assert_allclose((seen[:2] / seen[2]).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("form", "said"), [("rooms", "text files"), ("chunked_rooms", "chunks"), ("mat_rooms", ".mat")]
)
def test_the_form_is_found_and_said_aloud(
    form: str, said: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        reader = module(request.getfixturevalue(form)).reader("train")
    assert len(reader.keys()) == 4
    assert said in caplog.text


@pytest.mark.parametrize("form", ["chunked_rooms", "mat_rooms"])
def test_all_forms_give_the_same_tensors(form: str, rooms: Path, request: pytest.FixtureRequest) -> None:
    loaders = ["train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader"]
    for name in loaders:
        official, other = (getattr(module(root), name)() for root in (rooms, request.getfixturevalue(form)))
        if form == "chunked_rooms" and name == "train_dataloader":
            # Scenes of one chunk come one after the other: the same items in another order.
            official, other = official.dataset.dataset, other.dataset.dataset
            for index in range(len(official)):
                torch.manual_seed(index)
                first = official[index]
                torch.manual_seed(index)
                assert_same(first, other[index])
            continue
        for first, second in zip(official, other, strict=True):
            assert list(first.key) == list(second.key)
            if isinstance(first, Batch):
                # What the generator knows of its rooms lies beside the official form alone.
                first = first._replace(truth=second.truth)
            assert_same(first, second)


def test_the_chunked_writer_writes_what_the_official_one_does(tmp_path: Path, rooms: Path) -> None:
    write_synthetic_rooms(tmp_path, train_scenes=0, test_scenes=1, frames=FRAMES, height=HEIGHT, chunked=True)
    chunked, official = open_reader(tmp_path, "test", 1.0), open_reader(rooms, "train", 1.0)
    (key,) = chunked.keys()
    first, second = chunked.scene(key), official.scene(key)
    assert torch.equal(first.camera_to_world, second.camera_to_world)
    assert torch.equal(first.intrinsics, second.intrinsics)
    assert np.array_equal(np.asarray(first.frame(FRAMES - 1)), np.asarray(second.frame(FRAMES - 1)))
    chunk = torch.load(tmp_path / "test" / "000000.torch", weights_only=True)
    kinds = {"timestamps": torch.int64, "cameras": torch.float32}
    assert {name: chunk[0][name].dtype for name in kinds} == kinds
    assert chunk[0]["images"][0].dtype == torch.uint8
    assert set(chunk[0]) == {"url", "key", "timestamps", "cameras", "images"}


def test_only_the_pictures_asked_for_are_read_from_a_chunk(
    chunked_rooms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    decode = Image.open

    def counted(*args: Any, **kwargs: Any) -> Any:
        opened.append(1)
        return decode(*args, **kwargs)

    monkeypatch.setattr(Image, "open", counted)
    reader = open_reader(chunked_rooms, "train", 1.0)
    found = reader.scene(reader.keys()[0])
    assert found.usable_positions() == list(range(FRAMES))
    assert not opened
    found.frame(3)
    assert len(opened) == 1


def test_cropping_follows_the_original_arithmetic(rooms: Path) -> None:
    """A 16:9 image cut to its central square has its fx multiplied by width / height, cx still in the middle."""
    batch = next(iter(module(rooms).test_dataloader()))
    file = rooms / "test" / f"{batch.key[0]}.txt"
    fx, fy = table(file)[0, 1:3]
    expected = torch.tensor([[fx * 64 / 36, 0, 0.5], [0, fy, 0.5], [0, 0, 1]], dtype=torch.float32)
    torch.testing.assert_close(batch.context.params.intrinsics[0, 0], expected, rtol=0, atol=1e-6)


def test_poses_are_relative_to_the_first_context(rooms: Path) -> None:
    batch = next(iter(module(rooms).test_dataloader()))
    identity = torch.eye(4)
    torch.testing.assert_close(batch.context.params.camera_to_world[0, 0], identity, atol=1e-6, rtol=0)
    absolute = batch.target.params.absolute_pose[0, 0]
    relative = batch.context.params.absolute_pose[0, 0].inverse() @ absolute
    torch.testing.assert_close(batch.target.params.camera_to_world[0, 0], relative, atol=1e-5, rtol=0)


def test_a_root_without_anything_known_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"RealEstate10k.*train") as error:
        module(tmp_path).reader("train")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="nowhere"):
        module(tmp_path / "nowhere").reader("train")
    with pytest.raises(UserError, match=r"data\.root"):
        RealEstate10kDataModule().reader("train")


def test_the_mean_image_is_that_of_the_training_frames(rooms: Path) -> None:
    data = module(rooms)
    mean = data.mean_image()
    assert mean is not None
    keys, _ = data.training_split()
    # Three of the 14 frames of a scene apart: the first, and every third behind it.
    frames = [read_images(data.reader("train").scene(key), list(range(0, FRAMES, 3)), 16).images for key in keys]
    torch.testing.assert_close(mean, torch.cat(frames).mean(dim=0))


def test_a_root_with_the_test_split_alone_has_no_mean_image(own_rooms: Path) -> None:
    shutil.rmtree(own_rooms / "train")
    with pytest.warns(UserWarning, match="mean training image"):
        assert module(own_rooms).mean_image() is None
