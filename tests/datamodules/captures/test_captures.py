"""Captures of one's own: the same scene in four formats, with and without a bent lens."""

import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from datamodules.captures import is_capture, open_capture
from datamodules.captures.capture import depth_of_focus
from datamodules.image_files import UnreadableError
from datamodules.posed.settings import PredictedViews
from datamodules.realestate10k import RealEstate10kDataModule
from datamodules.realestate10k.verification import verify_root
from datamodules.synthetic.rooms.scene import Scene, draw_scene
from datamodules.synthetic.rooms.shading import render
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import look_at

WIDTH, HEIGHT, FRAMES = 240, 180, 4
FX, FY, CX, CY = 200.0, 205.0, 118.0, 93.0
BENT = {"k1": -0.12, "k2": 0.03, "p1": 0.001, "p2": -0.0015}
COEFFICIENTS = np.array([BENT[name] for name in ("k1", "k2", "p1", "p2")])
FOCUS_DEPTH = 2.4


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Cameras on an arc in a synthetic room that look at one point."""
    random = np.random.default_rng(8)
    scene = draw_scene(random, random, 10)
    start = torch.from_numpy(scene.camera_to_world[0])
    focus = start[:3, 3] + FOCUS_DEPTH * start[:3, 2]
    angles = torch.linspace(0, 0.25, FRAMES).double()
    away = -FOCUS_DEPTH * start[:3, 2]
    turned = torch.stack([torch.stack([c * away[0] - s * away[2], away[1], s * away[0] + c * away[2]])
                          for c, s in zip(angles.cos(), angles.sin(), strict=True)])  # fmt: skip
    up = torch.tensor([0.0, -1.0, 0.0]).double()
    poses = look_at(focus + turned, focus, up).numpy()
    intrinsics = np.array([[FX / WIDTH, 0, CX / WIDTH], [0, FY / HEIGHT, CY / HEIGHT], [0, 0, 1]])
    return scene._replace(camera_to_world=poses, intrinsics=intrinsics)


@pytest.fixture(scope="module")
def straight_pictures(scene: Scene) -> list[np.ndarray]:
    return [render(scene.house, pose, scene.intrinsics, HEIGHT, WIDTH) for pose in scene.camera_to_world]


@pytest.fixture(scope="module")
def bent_pictures(scene: Scene) -> list[np.ndarray]:
    """What a lens with distortion sees of the room, by way of OpenCV, from a picture twice as wide and high.

    First and last frame; the others are copies.
    """
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    plane = np.stack([(x - CX) / FX, (y - CY) / FY], axis=-1).reshape(-1, 1, 2)
    seen = cv2.undistortPoints(plane, np.eye(3), COEFFICIENTS, criteria=(cv2.TERM_CRITERIA_EPS, 200, 1e-12))[:, 0]
    half = np.array([0.5, 0.0, 0.25, 0.0, 0.5, 0.25, 0.0, 0.0, 1.0]).reshape(3, 3)
    wide = half @ scene.intrinsics  # the same view in the middle of one twice as wide
    place = seen * wide[[0, 1], [0, 1]] + wide[:2, 2]
    size = (2 * WIDTH, 2 * HEIGHT)
    maps = (place * size - 0.5).astype(np.float32).reshape(HEIGHT, WIDTH, 2)
    ends = [render(scene.house, scene.camera_to_world[p], wide, size[1], size[0]) for p in (0, FRAMES - 1)]
    nothing: Any = None  # one map holds both axes
    first, last = (cv2.remap(picture, maps, nothing, cv2.INTER_LINEAR) for picture in ends)
    return [first] * (FRAMES - 1) + [last]


def write_pictures(root: Path, pictures: list[np.ndarray]) -> None:
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(root / "images" / f"{number:03d}.png")


def write_transforms(root: Path, scene: Scene, bent: bool, extra: int = 0) -> None:
    """OpenGL axes: the camera's y and z axes are turned round."""
    frames = []
    poses = np.concatenate([scene.camera_to_world, scene.camera_to_world[:1].repeat(extra, 0)])
    for number, pose in enumerate(poses):
        matrix = pose.copy()
        matrix[:3, 1] *= -1
        matrix[:3, 2] *= -1
        frames.append({"file_path": f"images/{number:03d}.png", "transform_matrix": matrix.tolist()})
    content = {"w": WIDTH, "h": HEIGHT, "fl_x": FX, "fl_y": FY, "cx": CX, "cy": CY, "frames": frames[::-1]}
    (root / "transforms.json").write_text(json.dumps({**content, **(BENT if bent else {})}))


def quaternions(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """World-to-camera rotations (w, x, y, z) and translations."""
    world_to_camera = np.linalg.inv(scene.camera_to_world)
    xyzw = Rotation.from_matrix(world_to_camera[:, :3, :3]).as_quat()
    return np.roll(xyzw, 1, axis=1), world_to_camera[:, :3, 3]


def points_in_front(scene: Scene) -> np.ndarray:
    """Points at depth 5 of the first camera's axis, which is its z axis."""
    pose = scene.camera_to_world[0]
    return pose[:3, 3] + np.array([[0, 0, 5.0]]) @ pose[:3, :3].T


def write_colmap_text(root: Path, scene: Scene, bent: bool) -> None:
    folder = root / "sparse" / "0"
    folder.mkdir(parents=True)
    parameters = [FX, FY, CX, CY, *(COEFFICIENTS if bent else ())]
    model = "OPENCV" if bent else "PINHOLE"
    camera = f"7 {model} {WIDTH} {HEIGHT} {' '.join(map(str, parameters))}"
    (folder / "cameras.txt").write_text(f"# Camera list\n{camera}\n")
    lines = ["# Image list"]
    for number, (q, t) in enumerate(zip(*quaternions(scene), strict=True)):
        lines += [f"{number + 1} {' '.join(map(str, [*q, *t]))} 7 {number:03d}.png", "1.0 2.0 1" if number else ""]
    (folder / "images.txt").write_text("\n".join([lines[0], *lines[1:]]) + "\n")
    x, y, z = points_in_front(scene)[0]
    (folder / "points3D.txt").write_text(f"# Points\n1 {x} {y} {z} 9 9 9 0.5 1 0\n")


def write_colmap_binary(root: Path, scene: Scene, bent: bool) -> None:
    folder = root / "sparse"
    folder.mkdir(parents=True)
    parameters = [FX, FY, CX, CY, *(COEFFICIENTS if bent else ())]
    with (folder / "cameras.bin").open("wb") as file:
        file.write(struct.pack("<QiiQQ", 1, 7, 4 if bent else 1, WIDTH, HEIGHT))
        file.write(struct.pack(f"<{len(parameters)}d", *parameters))
    with (folder / "images.bin").open("wb") as file:
        file.write(struct.pack("<Q", FRAMES))
        for number, (q, t) in enumerate(zip(*quaternions(scene), strict=True)):
            file.write(struct.pack("<i7di", number + 1, *q, *t, 7))
            file.write(f"{number:03d}.png\0".encode())
            file.write(struct.pack("<Q2dq", 1, 1.0, 2.0, 1))
    with (folder / "points3D.bin").open("wb") as file:
        file.write(struct.pack("<QQ3d3BdQ2i", 1, 1, *points_in_front(scene)[0], 9, 9, 9, 0.5, 1, 1, 0))


def write_llff(root: Path, scene: Scene) -> None:
    rows = []
    for pose in scene.camera_to_world:
        right, down, forward, position = pose[:3].T
        size = np.array([HEIGHT, WIDTH, FX])
        matrix = np.stack([down, right, -forward, position, size], axis=1)
        rows.append([*matrix.reshape(-1), 2.0, 6.0])
    np.save(root / "poses_bounds.npy", np.array(rows))


WRITERS = {"transforms": write_transforms, "colmap text": write_colmap_text, "colmap binary": write_colmap_binary}
DEPTHS = {"transforms": FOCUS_DEPTH, "colmap text": 5.0, "colmap binary": 5.0}


@pytest.mark.parametrize("form", WRITERS)
def test_formats_give_the_cameras_they_were_written_from(
    form: str, scene: Scene, straight_pictures: list[np.ndarray], tmp_path: Path
) -> None:
    write_pictures(tmp_path, straight_pictures)
    WRITERS[form](tmp_path, scene, bent=False)
    assert is_capture(tmp_path)
    capture = open_capture(tmp_path, 3.0)
    assert capture.usable_positions() == list(range(FRAMES))
    expected = torch.from_numpy(scene.camera_to_world).clone()
    expected[:, :3, 3] *= 3.0 / DEPTHS[form]
    torch.testing.assert_close(capture.camera_to_world, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(capture.intrinsics[1], torch.from_numpy(scene.intrinsics), atol=1e-12, rtol=0)
    assert np.array_equal(np.asarray(capture.frame(2)), straight_pictures[2])


def test_llff(scene: Scene, straight_pictures: list[np.ndarray], tmp_path: Path) -> None:
    write_pictures(tmp_path, straight_pictures)
    write_llff(tmp_path, scene)
    capture = open_capture(tmp_path, 3.0)
    expected = torch.from_numpy(scene.camera_to_world).clone()
    expected[:, :3, 3] *= 3.0 / 3.0  # the harmonic mean of 2 and 6
    torch.testing.assert_close(capture.camera_to_world, expected, atol=1e-9, rtol=0)
    assert capture.intrinsics[0, 0, 0] == FX / WIDTH
    assert capture.intrinsics[0, 1, 1] == FX / HEIGHT
    assert capture.intrinsics[0, :2, 2].tolist() == [0.5, 0.5]
    (tmp_path / "images" / "000.png").unlink()
    with pytest.raises(UserError, match=r"4 poses.*images: 3"):
        open_capture(tmp_path, 3.0)


@pytest.mark.parametrize("form", WRITERS)
def test_distortion_is_undone(form: str, scene: Scene, bent_pictures: list[np.ndarray], tmp_path: Path) -> None:
    write_pictures(tmp_path, bent_pictures)
    WRITERS[form](tmp_path, scene, bent=True)
    capture = open_capture(tmp_path, 3.0)
    assert "distortion undone" in capture.description
    for position in (0, FRAMES - 1):
        pose, intrinsics = scene.camera_to_world[position], capture.intrinsics[position].numpy()
        truth = render(scene.house, pose, intrinsics, HEIGHT, WIDTH).astype(float)
        found = np.asarray(capture.frame(position)).astype(float)
        untouched = bent_pictures[position].astype(float)
        error, without = (np.abs(picture - truth).mean() for picture in (found, untouched))
        assert error < 4
        assert without > 1.5 * error


def epipolar_errors(root: Path, first: int, second: int) -> np.ndarray:
    """Distances, in pixels, of SIFT matches between two frames from the epipolar lines of the reader's cameras."""
    capture = open_capture(root, 3.0)
    sift = cv2.SIFT_create(contrastThreshold=0.02)  # type: ignore[attr-defined]  # not in its stubs
    grey = [cv2.cvtColor(np.asarray(capture.frame(p)), cv2.COLOR_RGB2GRAY) for p in (first, second)]
    (keys_a, features_a), (keys_b, features_b) = (sift.detectAndCompute(picture, None) for picture in grey)
    pairs = cv2.BFMatcher().knnMatch(features_a, features_b, k=2)
    good = [best for best, other in pairs if best.distance < 0.75 * other.distance]
    assert len(good) > 40
    a = np.array([[*keys_a[match.queryIdx].pt, 0.5] for match in good]) + 0.5
    b = np.array([[*keys_b[match.trainIdx].pt, 0.5] for match in good]) + 0.5
    size = np.array([[WIDTH], [HEIGHT], [1]])
    inverse_a, inverse_b = (np.linalg.inv(capture.intrinsics[p].numpy() * size) for p in (first, second))
    poses = capture.camera_to_world.numpy()
    relative = np.linalg.inv(poses[second]) @ poses[first]
    x, y, z = relative[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ relative[:3, :3]
    lines = a @ (inverse_b.T @ essential @ inverse_a).T
    return np.abs((lines * b).sum(axis=1)) / np.hypot(lines[:, 0], lines[:, 1])


def test_matches_lie_on_the_epipolar_lines(scene: Scene, bent_pictures: list[np.ndarray], tmp_path: Path) -> None:
    write_pictures(tmp_path, bent_pictures)
    write_transforms(tmp_path, scene, bent=True)
    error = np.median(epipolar_errors(tmp_path, 0, 3))
    assert error < 0.5
    content = json.loads((tmp_path / "transforms.json").read_text())
    for frame in content["frames"]:
        # As if the axes were OpenCV's already.
        frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1])).tolist()
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    assert np.median(epipolar_errors(tmp_path, 0, 3)) > 3 * error


def test_frames_that_are_missing_are_left_out_with_a_warning(
    scene: Scene, straight_pictures: list[np.ndarray], tmp_path: Path
) -> None:
    write_pictures(tmp_path, straight_pictures)
    write_transforms(tmp_path, scene, bent=False, extra=3)
    with pytest.warns(UserWarning, match=r"3 of 7 frames.*missing"):
        capture = open_capture(tmp_path, 3.0)
    assert len(capture.frames) == FRAMES
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="7 of 7 frames"):
        open_capture(tmp_path, 3.0)


def test_a_picture_of_another_shape_than_its_camera_cannot_be_used(
    scene: Scene, straight_pictures: list[np.ndarray], tmp_path: Path
) -> None:
    write_pictures(tmp_path, [*straight_pictures[:-1], straight_pictures[-1][:, : WIDTH // 2]])
    write_transforms(tmp_path, scene, bent=False)
    with pytest.raises(UnreadableError, match=r"120×180.*240×180"):
        open_capture(tmp_path, 3.0).frame(FRAMES - 1)
    assert [problem.where for problem in verify_root(tmp_path)] == [f"test/{tmp_path.name}"]


def test_a_picture_stored_lying_is_turned_where_its_camera_is_upright(
    scene: Scene, straight_pictures: list[np.ndarray], tmp_path: Path
) -> None:
    write_pictures(tmp_path, straight_pictures)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    lying = Image.fromarray(np.rot90(straight_pictures[0], 1))
    lying.save(tmp_path / "images" / "000.png", exif=exif)
    write_transforms(tmp_path, scene, bent=False)
    assert np.array_equal(np.asarray(open_capture(tmp_path, 3.0).frame(0)), straight_pictures[0])


def test_depth_of_cameras_that_look_at_nothing_in_common() -> None:
    side_by_side = torch.eye(4).double().repeat(3, 1, 1)
    side_by_side[:, 0, 3] = torch.tensor([-1.0, 0.0, 1.0])
    assert depth_of_focus(side_by_side) == 1.0
    assert depth_of_focus(torch.eye(4).double()[None]) == 1.0


def test_a_capture_is_a_data_root_for_test_and_predict(
    scene: Scene, straight_pictures: list[np.ndarray], tmp_path: Path
) -> None:
    write_pictures(tmp_path, straight_pictures)
    write_transforms(tmp_path, scene, bent=False)
    data = RealEstate10kDataModule(str(tmp_path), image_size=32, workers=0, prediction=PredictedViews(frames=5))
    (batch,) = data.test_dataloader()
    assert batch.key[0] == tmp_path.name
    assert batch.context.observation.shape == (1, 1, 3, 32, 32)
    assert batch.novel.observation.shape[1] == FRAMES - 2
    (request,) = data.predict_dataloader()
    assert request.params.camera_to_world.shape == (1, 5, 4, 4)
    torch.testing.assert_close(request.params.camera_to_world[0, 0], torch.eye(4), atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="training"):
        data.train_dataloader()
