"""The synthetic rooms: what their cameras, masks and truth file say is what their pictures show."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from small_rooms import FRAMES, table, write_small_rooms

import datamodules.synthetic.rooms.scene
from datamodules.posed.camera_files import read_camera_file
from datamodules.posed.scenes import Scene
from datamodules.realestate10k.forms import open_reader
from datamodules.synthetic.rooms import HIDDEN_MASKS, TRUTH_FILE, write_synthetic_rooms
from datamodules.synthetic.rooms.scene import WALLS_BEHIND, draw_scene
from dfm_lightning.errors import UserError

REAL = Path(__file__).parents[2] / "data" / "realestate10k"
REAL_SCENE = "000eb6240f06dd5a"


def truth(root: Path) -> dict:
    return json.loads((root / TRUTH_FILE).read_text())


def pictures(root: Path, key: str, split: str = "train") -> list[np.ndarray]:
    scene = open_reader(root, split, 1.0).scene(key)
    return [np.asarray(scene.frame(position)).astype(int) for position in range(len(scene.camera_to_world))]


def masks(root: Path, key: str, split: str = "train") -> list[np.ndarray]:
    files = sorted((root / HIDDEN_MASKS / split / key).iterdir(), key=lambda path: int(path.stem))
    return [np.asarray(Image.open(path)).astype(bool) for path in files]


def test_the_first_frame_shows_nothing_of_what_lies_behind_the_door(rooms: Path) -> None:
    for key, scene in truth(rooms)["scenes"].items():
        assert scene["first_frame_is_blind"]
        hidden = masks(rooms, key, scene["split"])
        assert len(hidden) == FRAMES
        assert not hidden[0].any(), "it shows all that it shows"
        assert hidden[-1].mean() > 0.8


@pytest.fixture(scope="module")
def empty_rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rooms") / "empty"
    write_synthetic_rooms(root, train_scenes=6, test_scenes=0, frames=FRAMES, height=36, empty=True)
    return root


def test_the_walls_behind_the_door_have_the_colour_of_the_truth(empty_rooms: Path) -> None:
    """In the last frame most of what is coloured at all; in the first, nothing is as colourful."""
    seen = set()
    for key, scene in truth(empty_rooms)["scenes"].items():
        frames = pictures(empty_rooms, key)
        name = scene["walls_behind"]
        seen.add(name)
        red, green, blue = frames[-1].reshape(-1, 3)[np.ptp(frames[-1].reshape(-1, 3), axis=1) > 100].T
        assert len(red) > 0.15 * frames[-1][..., 0].size
        is_colour = {
            "yellow": (red > blue + 60) & (green > blue + 60),
            "blue": (blue > red + 60) & (blue > green + 30),
            "red": (red > green + 60) & (red > blue + 60),
        }
        shares = {colour: mask.mean() for colour, mask in is_colour.items()}
        assert max(shares, key=lambda colour: shares[colour]) == name
        assert (np.ptp(frames[0], axis=2) > 130).mean() < 0.01
        behind = scene["cells"][1]
        assert behind["walls"]["colours"] == [list(WALLS_BEHIND[name].colour)]
        assert {solid["surface"]["texture"] for cell in scene["cells"] for solid in cell["solids"]} == {"plain"}
    assert len(seen) > 1


def test_nothing_but_the_walls_behind_depends_on_their_colour() -> None:
    """So the first frame, which is blind, cannot tell it."""
    scenes = [draw_scene(np.random.default_rng(4), np.random.default_rng(seed), 10) for seed in range(12)]
    assert {scene.walls_behind for scene in scenes} == set(WALLS_BEHIND)
    first = scenes[0]
    for scene in scenes[1:]:
        np.testing.assert_array_equal(scene.camera_to_world, first.camera_to_world)
        for number, (cell, other) in enumerate(zip(scene.house.cells, first.house.cells, strict=True)):
            repainted = cell._replace(walls=other.walls) if number == 1 else cell
            assert repainted == other


def test_colours_are_drawn_from_the_stated_distribution() -> None:
    count = 600
    names = [
        str(
            np.random.default_rng(seed).choice(
                list(WALLS_BEHIND), p=[p.probability for p in WALLS_BEHIND.values()]
            )
        )
        for seed in range(count)
    ]
    drawn = [
        draw_scene(np.random.default_rng(4), np.random.default_rng(seed), 8).walls_behind for seed in range(3)
    ]
    assert drawn == names[:3]
    for name, paint in WALLS_BEHIND.items():
        deviation = (paint.probability * (1 - paint.probability) / count) ** 0.5
        assert abs(names.count(name) / count - paint.probability) < 5 * deviation


def epipolar_errors(scene: Scene, first: int, second: int) -> np.ndarray:
    """Distances, in pixels, of SIFT matches between two frames from the epipolar lines of the reader's cameras."""
    sift = cv2.SIFT_create(contrastThreshold=0.02)  # type: ignore[attr-defined]  # not in its stubs
    grey = [cv2.cvtColor(np.asarray(scene.frame(p)), cv2.COLOR_RGB2GRAY) for p in (first, second)]
    (keys_a, features_a), (keys_b, features_b) = (sift.detectAndCompute(picture, None) for picture in grey)
    pairs = cv2.BFMatcher().knnMatch(features_a, features_b, k=2)
    good = [best for best, other in pairs if best.distance < 0.7 * other.distance]
    assert len(good) > 40
    a = np.array([[*keys_a[match.queryIdx].pt, 0.5] for match in good]) + 0.5
    b = np.array([[*keys_b[match.trainIdx].pt, 0.5] for match in good]) + 0.5
    height, width = grey[0].shape
    size = np.array([[width], [height], [1]])
    inverse_a, inverse_b = (np.linalg.inv(scene.intrinsics[p].numpy() * size) for p in (first, second))
    poses = scene.camera_to_world.numpy()
    relative = np.linalg.inv(poses[second]) @ poses[first]
    x, y, z = relative[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ relative[:3, :3]
    lines = a @ (inverse_b.T @ essential @ inverse_a).T
    return np.abs((lines * b).sum(axis=1)) / np.hypot(lines[:, 0], lines[:, 1])


@pytest.mark.slow
def test_the_readers_cameras_agree_with_the_pictures(tmp_path: Path) -> None:
    write_synthetic_rooms(tmp_path, train_scenes=1, test_scenes=0, frames=8, height=216)
    reader = open_reader(tmp_path, "train", 1.0)
    scene = reader.scene(reader.keys()[0])
    errors = np.concatenate([epipolar_errors(scene, p, p + 1) for p in (4, 5, 6)])
    assert np.median(errors) < 0.5
    for wrong in (
        scene.camera_to_world.inverse(),
        scene.camera_to_world * torch.tensor([1.0, -1, -1, 1]).double(),
    ):
        scene.camera_to_world = wrong
        assert np.median(epipolar_errors(scene, 5, 6)) > 4 * np.median(errors)


def paths_folder(folder: Path) -> Path:
    folder.mkdir()
    shutil.copy(REAL / f"{REAL_SCENE}.txt", folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("chunked", [False, True])
def test_a_real_camera_path_drives_a_walk_through_rooms(chunked: bool, tmp_path: Path) -> None:
    given = read_camera_file(REAL / f"{REAL_SCENE}.txt")
    root, folder = tmp_path / "root", paths_folder(tmp_path / "paths")
    write_synthetic_rooms(root, train_scenes=1, test_scenes=1, height=18, camera_paths=folder, chunked=chunked)
    assert bool(list((root / "train").glob("*.torch"))) == chunked
    wanted, intrinsics = given.cameras()
    for split in ("train", "test"):
        reader = open_reader(root, split, 1.0)
        scene = reader.scene(reader.keys()[0])
        assert scene.usable_positions() == list(range(46))
        torch.testing.assert_close(scene.intrinsics, intrinsics, atol=1e-6, rtol=0)
        # The same motion, in another place and at another scale.
        found, expected = scene.camera_to_world[0].inverse() @ scene.camera_to_world, wanted[0].inverse() @ wanted
        torch.testing.assert_close(found[:, :3, :3], expected[:, :3, :3], atol=1e-6, rtol=0)
        scale = found[-1, :3, 3].norm() / expected[-1, :3, 3].norm()
        torch.testing.assert_close(found[:, :3, 3], expected[:, :3, 3] * scale, atol=1e-6, rtol=0)
        if not chunked:
            file = root / split / f"{reader.keys()[0]}.txt"
            np.testing.assert_array_equal(table(file)[:, 0], given.timestamps.numpy())
    scenes = truth(root)["scenes"].values()
    assert all(isinstance(scene["first_frame_is_blind"], bool) for scene in scenes)


def test_a_path_that_fits_nowhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datamodules.synthetic.rooms.scene, "_PLANS_TRIED", 3)
    folder = paths_folder(tmp_path / "paths")
    lines = (folder / f"{REAL_SCENE}.txt").read_text().splitlines()
    # Up, three times as far as it goes forward: through any ceiling.
    for number in range(1, len(lines)):
        words = lines[number].split()
        words[14] = str(0.3 * number)
        lines[number] = " ".join(words)
    (folder / f"{REAL_SCENE}.txt").write_text("\n".join(lines))
    with pytest.raises(UserError, match="houses"):
        write_synthetic_rooms(tmp_path / "root", train_scenes=1, test_scenes=0, camera_paths=folder)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none"):
        write_synthetic_rooms(tmp_path / "root", camera_paths=tmp_path / "none")


def test_what_is_there_is_not_made_again_and_other_settings_are_refused(own_rooms: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in own_rooms.rglob("*.jpg")}
    lost = sorted((own_rooms / "train").glob("*.txt"))[0]
    content = lost.read_bytes()
    lost.unlink()
    write_small_rooms(own_rooms)
    assert lost.read_bytes() == content
    made_again = {path for path, time in files.items() if path.stat().st_mtime_ns != time}
    assert made_again == set(lost.with_suffix("").iterdir())
    with pytest.raises(UserError, match="settings"):
        write_small_rooms(own_rooms, seed=1)
