"""Every kind of trajectory can be asked of every data set, and is where it should be."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_items import toys, walks
from small_roots import FRAMES, write_capture, write_photograph, write_toys, write_walks

from datamodules.posed.camera_moves import CameraMove
from datamodules.posed.path_files import read_camera_path
from dfm_lightning.errors import UserError
from dfm_lightning.types import Request


def capture(root: Path, **options: Any) -> Any:
    return walks(write_capture(root), **options)


DATA_SETS: dict[str, Callable[..., Any]] = {
    "co3d": lambda root, **options: toys(write_toys(root), **options),
    "realestate10k": lambda root, **options: walks(write_walks(root), **options),
    "capture": capture,
}


def camera_file(folder: Path) -> Path:
    """A file of cameras, of which the first is neither at its world's origin nor unturned."""
    url, *lines = (write_walks(folder) / "train" / "train3.txt").read_text().splitlines()
    path = folder / "cameras.txt"
    path.write_text("\n".join([url, *lines[::-1]]))
    return path


def first(data: Any) -> Request:
    return data.predict_dataloader().dataset[0]


@pytest.fixture(params=list(DATA_SETS))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    return lambda **options: DATA_SETS[request.param](tmp_path / "root", **options)


def test_a_circle_looks_at_one_point_from_all_around(make: Callable[..., Any]) -> None:
    pose = first(make(prediction={"trajectory": "circle", "frames": 8})).params.absolute_pose.double()
    position, axis = pose[:, :3, 3], pose[:, :3, 2]
    centre = position.mean(dim=0)
    # On one circle, in equal steps.
    radius = (position - centre).norm(dim=1)
    torch.testing.assert_close(radius, radius.mean().expand(8), rtol=1e-3, atol=1e-5)
    steps = (position.roll(-1, 0) - position).norm(dim=1)
    chord = 2 * radius.mean() * math.sin(math.pi / 8)
    torch.testing.assert_close(steps, chord.expand(8), rtol=1e-3, atol=1e-4)
    # The axes meet: the point nearest to all of them, by plain least squares, lies on each.
    projections = torch.eye(3).double() - axis[:, :, None] * axis[:, None, :]
    offsets = (projections @ position[:, :, None]).flatten()
    point = torch.linalg.lstsq(projections.flatten(0, 1), offsets[:, None]).solution[:, 0]
    missed = (projections @ (point - position)[:, :, None])[..., 0].norm(dim=1)
    assert (missed < 1e-3 * radius.mean().clamp(min=1)).all()


def test_a_file_of_cameras_begins_at_the_context(make: Callable[..., Any], tmp_path: Path) -> None:
    file = camera_file(tmp_path / "walks")
    prediction = {"trajectory": str(file), "scale": 2.0, "frames": FRAMES}
    request = first(make(prediction=prediction))
    given = read_camera_path(file)
    expected = torch.linalg.inv(given[0]) @ given
    expected[:, :3, 3] *= 2
    torch.testing.assert_close(request.params.camera_to_world, expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["dataset", "interpolation", "extrapolation", "move"])
def test_paths_begin_at_the_context(kind: str, make: Callable[..., Any]) -> None:
    prediction = {"trajectory": kind, "frames": 9, "move": CameraMove("sway", 0.3, 9)}
    request = first(make(prediction=prediction))
    cameras = request.params
    assert cameras.camera_to_world.shape == (9, 4, 4)
    torch.testing.assert_close(cameras.camera_to_world[0], torch.eye(4), rtol=0, atol=1e-4)
    moved = (cameras.absolute_pose[:, :3, 3] - cameras.absolute_pose[0, :3, 3]).norm(dim=1)
    assert moved.isfinite().all()
    assert moved.max() > 0.05


def test_a_move_is_in_units_of_the_scenes_depth(make: Callable[..., Any]) -> None:
    data = make(prediction={"trajectory": "move", "move": CameraMove("forward", 0.5, 3)})
    moved = first(data).params.camera_to_world[-1, :3, 3]
    torch.testing.assert_close(moved, torch.tensor([0.0, 0.0, 0.5 * data.scene_depth]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("module", [toys, walks])
def test_a_photograph_follows_a_file(module: Callable[..., Any], tmp_path: Path) -> None:
    file = camera_file(tmp_path / "walks")
    image = str(write_photograph(tmp_path / "photograph.png"))
    prediction = {"trajectory": str(file), "frames": 4}
    cameras = first(module(tmp_path, image=image, prediction=prediction)).params
    given = read_camera_path(file)[[0, 3, 6, 9]]
    torch.testing.assert_close(
        cameras.camera_to_world, (torch.linalg.inv(given[0]) @ given).float(), rtol=1e-4, atol=1e-5
    )


def test_an_index_says_the_views_of_any_data_set(make: Callable[..., Any], tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    data = make(evaluation={"index": str(index)})
    key = data.reader("test").keys()[0]
    index.write_text(f'{{"{key}": {{"context": [7], "target": [1, 4]}}}}')
    (batch,) = data.test_dataloader()
    poses = data.reader("test").scene(key).camera_to_world.float()
    views = (batch.context, batch.target, batch.novel)
    for view, position in zip(views, (7, 1, 4), strict=True):
        torch.testing.assert_close(view.params.absolute_pose[0, 0], poses[position])


def test_what_is_no_trajectory_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"circle.*spirals"):
        make(prediction={"trajectory": "spirals"}).predict_dataloader()


def test_too_short_an_extrapolation_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"prediction\.frames"):
        make(prediction={"trajectory": "extrapolation", "frames": 2}).predict_dataloader()
