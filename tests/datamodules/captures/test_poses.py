"""Cameras of pictures that nobody measured, found again in pictures rendered from known ones."""

import json
from functools import cache
from pathlib import Path

import cv2
import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.captures import open_capture
from datamodules.captures.pictures import prepare_pictures
from datamodules.captures.poses import find_poses
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import look_at

WIDTH, HEIGHT, FOCAL, VIEWS = 320, 240, 300.0, 8
# A corner of a room: walls x = 2, y = 1 (the floor) and z = 3.
WALLS = np.array([2.0, 1.0, 3.0])


def cameras(count: int = VIEWS) -> np.ndarray:
    """Camera-to-world poses on an arc around the corner."""
    angle = torch.linspace(-0.5, 0.2, count).double()
    around = torch.tensor([1.0, 0.5, 2.0]).double()
    position = around + torch.stack([3 * angle.sin(), -0.3 + 0.2 * angle, -3 * angle.cos()], dim=1)
    return look_at(position, around, torch.tensor([0.0, -1.0, 0.0]).double()).numpy()


@cache
def textures() -> list[np.ndarray]:
    """For each wall blots of several sizes, 1024 × 1024."""
    random = np.random.default_rng(3)
    layers = [[cv2.resize(random.uniform(0, 255, (size, size, 3)), (1024, 1024), interpolation=cv2.INTER_CUBIC)
               for size in (16, 48, 128)] for _ in WALLS]  # fmt: skip
    return [np.mean(layer, axis=0).clip(0, 255).astype(np.uint8) for layer in layers]


def render(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a camera sees of the walls, and the depths of it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    plane = np.stack([(x - WIDTH / 2) / FOCAL, (y - HEIGHT / 2) / FOCAL, np.ones_like(x)], axis=-1)
    rays = plane @ pose[:3, :3].T
    distance = np.where(rays > 1e-9, (WALLS - pose[:3, 3]) / np.where(rays > 1e-9, rays, 1), np.inf)
    wall, depth = distance.argmin(axis=-1), distance.min(axis=-1)
    points = pose[:3, 3] + rays * depth[..., None]
    picture = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    for number, texture in enumerate(textures()):
        u, v = (np.delete(points, number, axis=-1) * 120 + 512).astype(np.float32).transpose(2, 0, 1)
        seen = cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        picture[wall == number] = seen[wall == number]
    return picture, depth


@pytest.fixture(scope="module")
def views() -> list[tuple[np.ndarray, np.ndarray]]:
    return [render(pose) for pose in cameras()]


def aligned(found: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, and errors of positions (in true lengths) and rotations (in radians) after the best similarity."""
    a, b = truth[:, :3, 3], found[:, :3, 3]
    centred_a, centred_b = a - a.mean(axis=0), b - b.mean(axis=0)
    # Rotations say how the worlds are turned; positions on an arc alone would say it badly.
    u, _, v = np.linalg.svd(sum(t[:3, :3] @ f[:3, :3].T for t, f in zip(truth, found, strict=True)))
    turn = u @ v
    scale = float((centred_a * (centred_b @ turn.T)).sum() / (centred_b**2).sum())
    errors = np.linalg.norm(centred_a - scale * centred_b @ turn.T, axis=1)
    difference = [(turn @ f[:3, :3]).T @ t[:3, :3] for t, f in zip(truth, found, strict=True)]
    angles = np.array([np.arccos(np.clip((np.trace(each) - 1) / 2, -1, 1)) for each in difference])
    return scale, errors, angles


@pytest.mark.slow
def test_cameras_are_found_again(
    views: list[tuple[np.ndarray, np.ndarray]], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    # In natural order, which is not that of plain names.
    names = [f"view_{number}" for number in (1, 2, 5, 8, 9, 10, 11, 20)]
    for name, (picture, _) in zip(names, views, strict=True):
        Image.fromarray(picture).save(folder / f"{name}.png")
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "unrelated.png")
    (folder / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "._view_1.png").write_bytes(b"\0\5\x16\7")
    find_poses(folder, seed=4)
    said = capsys.readouterr().out
    assert "8 of 9 pictures placed" in said
    assert "1 unreadable picture," in said
    assert "not placed: unrelated" in said
    root = tmp_path / "photos_capture"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "photos_capture"]
    assert Image.open(root / "top_view.png").size == (800, 800)

    capture = open_capture(root, 3.0)
    assert [frame.path.stem for frame in capture.frames] == names
    content = json.loads((root / "transforms.json").read_text())
    found = capture.camera_to_world.numpy()
    scale, errors, angles = aligned(found, cameras())
    assert errors.max() < 0.03
    assert angles.max() < 0.015
    assert capture.intrinsics[0, 0, 0].item() * WIDTH == pytest.approx(FOCAL, rel=0.03)
    # The unit of the file: translations were scaled on reading.
    unit = scale * 3 * (1 / content["near"] + 1 / content["far"]) / 2
    depths = np.concatenate([depth.ravel() for _, depth in views])
    assert content["near"] * unit == pytest.approx(np.percentile(depths, 0.5), rel=0.15)
    assert content["far"] * unit == pytest.approx(np.percentile(depths, 99.5), rel=0.15)

    with pytest.raises(UserError, match="photos_capture"):
        find_poses(folder)
    find_poses(folder, output=tmp_path / "again", seed=4)
    again = open_capture(tmp_path / "again", 3.0)
    torch.testing.assert_close(again.camera_to_world, capture.camera_to_world, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_frames_of_a_video_are_placed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    truth = cameras(16)
    video = tmp_path / "walk.mp4"
    imageio.imwrite(video, np.stack([render(pose)[0] for pose in truth]), plugin="FFMPEG", fps=8, quality=9)
    find_poses(video, frames=8)
    assert "8 of 8 pictures placed" in capsys.readouterr().out
    capture = open_capture(tmp_path / "walk_capture", 3.0)
    taken = np.linspace(0, 15, 8).round().astype(int)
    assert [frame.path.stem for frame in capture.frames] == [f"frame_{number:06d}" for number in taken]
    _, errors, angles = aligned(capture.camera_to_world.numpy(), truth[taken])
    assert errors.max() < 0.06
    assert angles.max() < 0.03


def test_too_few_placed_pictures_are_said_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (64, 48), (40 * number, 90, 90)).save(folder / f"{number}.png")
    with pytest.raises(UserError, match="0 of 4 pictures") as error:
        find_poses(folder)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "photos_capture").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no pictures"),
        ({"a.png": None}, "at least 3 pictures, got 1"),
        ({"a.txt": b"text"}, "holds no pictures"),
        ({"a.png": b"no picture"}, "at least 3 pictures, got 0"),
    ],
)
def test_folders_without_enough_pictures(content: dict[str, bytes | None], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, data in content.items():
        if data is None:
            Image.new("RGB", (64, 48)).save(folder / name)
        else:
            (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        find_poses(folder)
    assert not (tmp_path / "photos_capture").exists()


def test_what_is_no_video_and_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none"):
        find_poses(tmp_path / "none")
    (tmp_path / "text.mp4").write_bytes(b"text" * 100)
    with pytest.raises(UserError, match=r"text\.mp4") as error:
        find_poses(tmp_path / "text.mp4")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"frames.*3"):
        find_poses(tmp_path / "text.mp4", frames=2)


def test_a_run_that_was_cut_off_goes_on_only_with_the_same_pictures_and_settings(tmp_path: Path) -> None:
    folder, work = tmp_path / "photos", tmp_path / "work"
    folder.mkdir()
    Image.new("RGB", (3200, 1000), (1, 2, 3)).save(folder / "a.png")
    Image.new("RGB", (64, 48), (4, 5, 6)).save(folder / "a.jpg")
    assert prepare_pictures(folder, 5, work, {"seed": 1}) == []
    assert sorted(path.name for path in (work / "pictures").iterdir()) == ["a_jpg.png", "a_png.png"]
    assert Image.open(work / "pictures" / "a_png.png").size == (1600, 500)
    (work / "database.db").write_bytes(b"found so far")
    prepare_pictures(folder, 5, work, {"seed": 1})
    assert (work / "database.db").is_file()
    prepare_pictures(folder, 5, work, {"seed": 2})
    assert not (work / "database.db").exists()
    (work / "database.db").write_bytes(b"found so far")
    Image.new("RGB", (65, 48), (4, 5, 6)).save(folder / "a.jpg")
    prepare_pictures(folder, 5, work, {"seed": 2})
    assert not (work / "database.db").exists()
