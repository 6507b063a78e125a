"""A real capture: the cameras of instant-ngp's fox, checked by matches that were found in its pictures."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.captures import Capture, is_capture, open_capture
from datamodules.posed.settings import PredictedViews
from datamodules.realestate10k import RealEstate10kDataModule

FOX = json.loads((Path(__file__).parents[2] / "data" / "fox_matches.json").read_text())
WIDTH, HEIGHT = FOX["size"]


def write(root: Path, transforms: dict[str, Any]) -> None:
    """The capture with grey pictures, a quarter of the size that its lens was measured for, as many have them."""
    names = {name for pair in FOX["matches"] for name in pair["frames"]}
    (root / "images").mkdir(parents=True)
    for name in names:
        Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 150)).save(root / name)
    (root / "transforms.json").write_text(json.dumps(transforms))


def epipolar_errors(capture: Capture, bent: bool = True) -> np.ndarray:
    """Distances, in pixels of straight pictures, of matches from the epipolar lines of the reader's cameras."""
    position = {frame.path.name: index for index, frame in enumerate(capture.frames)}
    lens = capture.frames[0].lens
    fx, fy, cx, cy, *coefficients = lens.parameters
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    distortion = np.array(coefficients) if bent else np.zeros(4)
    pinhole = capture.intrinsics[0] * torch.tensor([[WIDTH], [HEIGHT], [1]]).double()

    def straight(points: list[list[float]]) -> torch.Tensor:
        places = np.array(points) / [WIDTH, HEIGHT] * [lens.width, lens.height]
        exact = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-12)
        plane = torch.from_numpy(cv2.undistortPoints(places[:, None], matrix, distortion, criteria=exact)[:, 0])
        return torch.cat([plane, torch.ones(len(plane), 1)], dim=1) @ pinhole.T

    errors = []
    for pair in FOX["matches"]:
        first, second = (position[Path(name).name] for name in pair["frames"])
        a, b = straight(pair["first"]), straight(pair["second"])
        relative = capture.camera_to_world[second].inverse() @ capture.camera_to_world[first]
        x, y, z = relative[:3, 3].tolist()
        essential = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]]).double() @ relative[:3, :3]
        lines = a @ (pinhole.inverse().T @ essential @ pinhole.inverse()).T
        errors.append(((lines * b).sum(dim=1) / lines[:, :2].norm(dim=1)).abs().numpy())
    return np.concatenate(errors)


def test_the_cameras_of_a_real_capture_agree_with_its_pictures(tmp_path: Path) -> None:
    write(tmp_path / "fox", FOX["transforms"])
    with pytest.warns(UserWarning, match="2 of 8 frames"):
        capture = open_capture(tmp_path / "fox", 3.0)
    assert len(capture.frames) == 6
    assert "distortion undone" in capture.description
    errors = epipolar_errors(capture)
    assert np.median(errors) < 0.35
    assert np.mean(errors < 2) > 0.95
    # This lens bends by less than a pixel here; still, not to undo it is worse.
    assert np.median(epipolar_errors(capture, bent=False)) > np.median(errors)


def opencv_axes(transforms: dict[str, Any]) -> None:
    for frame in transforms["frames"]:
        frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1])).tolist()


def world_to_camera(transforms: dict[str, Any]) -> None:
    for frame in transforms["frames"]:
        frame["transform_matrix"] = np.linalg.inv(frame["transform_matrix"]).tolist()


def wrong_focal(transforms: dict[str, Any]) -> None:
    transforms["fl_x"] *= 1.1
    transforms["fl_y"] *= 1.1


def wrong_lens(transforms: dict[str, Any]) -> None:
    transforms["k1"] = 0.3


@pytest.mark.parametrize("misread", [opencv_axes, world_to_camera, wrong_focal, wrong_lens])
@pytest.mark.filterwarnings("ignore:.*frames cannot be used")
def test_the_check_finds_cameras_misread(misread: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    write(tmp_path / "right", FOX["transforms"])
    transforms = copy.deepcopy(FOX["transforms"])
    misread(transforms)
    write(tmp_path / "wrong", transforms)
    right, wrong = (epipolar_errors(open_capture(tmp_path / name, 3.0)) for name in ("right", "wrong"))
    assert np.median(wrong) > 2 * np.median(right)


@pytest.mark.filterwarnings("ignore:.*frames cannot be used")
def test_transforms_may_lie_in_a_folder_of_the_capture(tmp_path: Path) -> None:
    write(tmp_path, FOX["transforms"])
    (tmp_path / "original").mkdir()
    (tmp_path / "transforms.json").rename(tmp_path / "original" / "transforms.json")
    assert is_capture(tmp_path)
    assert len(open_capture(tmp_path, 3.0).frames) == 6
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "transforms.json").write_text("{}")
    assert not is_capture(tmp_path), "which of the two is not for the program to guess"


@pytest.mark.filterwarnings("ignore:.*frames cannot be used")
def test_it_is_a_root_for_test_and_predict(tmp_path: Path) -> None:
    write(tmp_path / "fox", FOX["transforms"])
    data = RealEstate10kDataModule(
        str(tmp_path / "fox"), image_size=16, workers=0, prediction=PredictedViews(frames=4)
    )
    (batch,) = data.test_dataloader()
    assert list(batch.key) == ["fox"]
    # Upright pictures are cut to their middle square, with all that is shown in them.
    assert batch.context.observation.shape == (1, 1, 3, 16, 16)
    torch.testing.assert_close(
        batch.context.observation[0, 0, :, 8, 8], torch.tensor([90, 120, 150]) / 127.5 - 1, atol=2e-2, rtol=0
    )
    intrinsics = batch.context.params.intrinsics[0, 0]
    assert intrinsics[0, 0].item() == pytest.approx(intrinsics[1, 1].item(), rel=2e-2)
    (request,) = data.predict_dataloader()
    assert request.params.camera_to_world.shape == (1, 4, 4, 4)
