"""Write synthetic rooms in the layouts of RealEstate10k, with a truth file beside them."""

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from datamodules.hidden_looks import HIDDEN_MASKS
from datamodules.posed.camera_files import DECIMALS, CameraPath, read_camera_file, write_camera_file
from datamodules.realestate10k.chunks import INDEX_FILE, EncodedScene, write_chunk
from datamodules.synthetic.production import produce, write_truth
from datamodules.synthetic.rooms.scene import (
    WALLS_BEHIND,
    Scene,
    draw_scene,
    hidden_from_first,
    shows_nothing_behind,
)
from datamodules.synthetic.rooms.shading import render
from dfm_lightning.errors import UserError
from dfm_lightning.files import remove_leftovers, whole_folder, write_json
from dfm_lightning.geometry.cameras import opencv_to_realestate10k
from dfm_lightning.randomness import generator_for

EVALUATION_INDEX = "evaluation_index.json"
SCENES_PER_CHUNK = 8
FRAME_INTERVAL_US = 33367
_ABOUT = (
    "Houses of three rooms in a row. A camera walks from the first room through a door into the second. The "
    "first frame shows nothing of what lies behind the doorway (`first_frame_is_blind`; a camera path of one's "
    "own may not be so). The colour of the second room's walls is drawn from `distribution`, independently of "
    f"everything else. {HIDDEN_MASKS}/<split>/<scene>/ marks in every frame the pixels that show what the first "
    "frame does not."
)


class Settings(NamedTuple):
    """All settings that the files depend on. `camera_paths` are the names of the given path files."""

    train_scenes: int
    test_scenes: int
    frames: int
    height: int
    chunked: bool
    empty: bool
    camera_paths: tuple[str, ...]
    seed: int

    @property
    def width(self) -> int:
        """Return the width of images 16:9."""
        return round(self.height * 16 / 9)


class PlannedScene(NamedTuple):
    """A scene before it is rendered."""

    split: str
    key: str
    scene: Scene
    path: CameraPath


def write_synthetic_rooms(
    root: Path,
    train_scenes: int = 40,
    test_scenes: int = 6,
    frames: int = 60,
    height: int = 144,
    chunked: bool = False,
    empty: bool = False,
    camera_paths: Path | None = None,
    seed: int = 0,
    workers: int = 1,
) -> None:
    """Write a small data set of rooms in a layout of RealEstate10k. Run again, it writes only what is missing.

    A camera walks from one room through a door into the next. The first frame does not show what lies behind the
    door; truth.json holds the whole house, and the distribution that the colour of the walls there was drawn from.
    evaluation_index.json is an index for test.

    Args:
        root: folder to write to.
        train_scenes: number of scenes in the split `train`.
        test_scenes: number of scenes in the split `test`.
        frames: number of frames of a walk.
        height: height of the images in pixels; the width is 16/9 of it.
        chunked: write .torch files with index.json instead of camera text files with folders of frames.
        empty: leave the rooms empty, with plain walls and floors, which a small model can learn in minutes.
        camera_paths: a folder of RealEstate10k's camera text files that the cameras follow in turn, as far as
            rooms allow, instead of walking through the door.
        seed: the files are a function of it, of the given paths and of the sizes above.
        workers: number of processes that render.
    """
    root = Path(root)
    files = sorted(Path(camera_paths).glob("*.txt")) if camera_paths else []
    if camera_paths and not files:
        raise UserError(f"{camera_paths} holds no camera text file (*.txt)")
    names = tuple(file.name for file in files)
    settings = Settings(train_scenes, test_scenes, frames, height, chunked, empty, names, seed)
    _check(settings)
    root.mkdir(parents=True, exist_ok=True)
    planned = [plan_scene(settings, number, files) for number in range(train_scenes + test_scenes)]
    write_truth(root, _truth(settings, planned))
    remove_leftovers(root)
    write_json(root / EVALUATION_INDEX, _evaluation_index(planned))
    if chunked:
        _write_chunks(root, settings, planned, workers)
    else:
        missing = [each for each in planned if not _camera_file(root, each).exists()]
        produce(partial(_write_scene, root, settings), missing, workers, f"Writing rooms to {root}")


def plan_scene(
    settings: Settings, number: int, files: list[Path], hidden: np.random.Generator | None = None
) -> PlannedScene:
    """Plan the scene of a number, as a function of the settings, the number and the given camera paths.

    With `hidden`, that decides on the colour behind the door.
    """
    random = _random(settings, number, "visible")
    given = read_camera_file(files[number % len(files)]) if files else None
    poses, intrinsics = None, None
    if given is not None:
        camera_to_world, matrices = given.cameras()
        poses, intrinsics = camera_to_world.numpy(), matrices[0].numpy()
    hidden = hidden or _random(settings, number, "behind")
    scene = draw_scene(random, hidden, settings.frames, intrinsics, poses, settings.empty)
    start = int(random.integers(1_000_000, 300_000_000))
    regular = start + FRAME_INTERVAL_US * torch.arange(len(scene.camera_to_world))
    key = f"{_random(settings, number, 'key').integers(2**63):016x}"
    numbers = opencv_to_realestate10k(
        torch.from_numpy(scene.camera_to_world),
        torch.from_numpy(scene.intrinsics).expand(len(scene.camera_to_world), 3, 3),
    )
    # With the decimals of text files, so that chunks hold the same numbers.
    numbers = numbers.round(decimals=DECIMALS)
    path = CameraPath(f"synthetic rooms {number}", given.timestamps if given else regular, numbers)
    return PlannedScene("train" if number < settings.train_scenes else "test", key, scene, path)


def _random(settings: Settings, number: int, purpose: str) -> np.random.Generator:
    generator = generator_for("synthetic rooms", number, purpose, seed=settings.seed)
    return np.random.default_rng(generator.initial_seed())


def _check(settings: Settings) -> None:
    if min(settings.train_scenes, settings.test_scenes) < 0 or settings.train_scenes + settings.test_scenes < 1:
        raise UserError(f"the numbers of scenes must be at least 0 and one above, not {settings}")
    if settings.frames < 8 or settings.height < 18:
        raise UserError(f"at least 8 frames of 18 rows of pixels are needed, not {settings}")


# --- files ------------------------------------------------------------------------------------------------


def _camera_file(root: Path, planned: PlannedScene) -> Path:
    return root / planned.split / f"{planned.key}.txt"


def _write_scene(root: Path, settings: Settings, planned: PlannedScene) -> None:
    """Write a folder of frames, then the camera file, whose presence marks the scene as complete."""
    _write_hidden_masks(root, settings, planned)
    with whole_folder(root / planned.split / planned.key) as aside:
        for timestamp, image in zip(planned.path.timestamps.tolist(), _images(settings, planned), strict=True):
            (aside / f"{timestamp}.jpg").write_bytes(image)
    write_camera_file(_camera_file(root, planned), planned.path)


def _write_chunks(root: Path, settings: Settings, planned: list[PlannedScene], workers: int) -> None:
    for split in ("train", "test"):
        scenes = [each for each in planned if each.split == split]
        chunks = [scenes[i : i + SCENES_PER_CHUNK] for i in range(0, len(scenes), SCENES_PER_CHUNK)]
        paths = [root / split / f"{number:06d}.torch" for number in range(len(chunks))]
        missing = [(path, chunk) for path, chunk in zip(paths, chunks, strict=True) if not path.exists()]
        write = partial(_write_one_chunk, root, settings)
        produce(write, missing, workers, f"Writing chunks of rooms to {root / split}")
        index = {each.key: path.name for path, chunk in zip(paths, chunks, strict=True) for each in chunk}
        write_json(root / split / INDEX_FILE, index)


def _write_one_chunk(root: Path, settings: Settings, job: tuple[Path, list[PlannedScene]]) -> None:
    path, chunk = job
    for planned in chunk:
        _write_hidden_masks(root, settings, planned)
    write_chunk(path, [EncodedScene(each.key, each.path, list(_images(settings, each))) for each in chunk])


def _images(settings: Settings, planned: PlannedScene) -> Iterator[bytes]:
    """Render the frames as JPEG."""
    scene = planned.scene
    for pose in scene.camera_to_world:
        picture = Image.fromarray(render(scene.house, pose, scene.intrinsics, settings.height, settings.width))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=95, subsampling=0)
        yield buffer.getvalue()


def _write_hidden_masks(root: Path, settings: Settings, planned: PlannedScene) -> None:
    with whole_folder(root / HIDDEN_MASKS / planned.split / planned.key) as aside:
        for frame, timestamp in enumerate(planned.path.timestamps.tolist()):
            mask = hidden_from_first(planned.scene, frame, settings.height, settings.width)
            Image.fromarray(mask).save(aside / f"{timestamp}.png")


def _evaluation_index(planned: list[PlannedScene]) -> dict[str, Any]:
    """Build the index: the first and the last frame are context; targets lie between, most of them behind the
    door.
    """
    index = {}
    for each in planned:
        if each.split == "test":
            last = len(each.path.timestamps) - 1
            index[each.key] = {"context": [0, last], "target": [round(last * part) for part in (0.4, 0.65, 0.9)]}
    return index


def _truth(settings: Settings, planned: list[PlannedScene]) -> dict[str, Any]:
    return {
        "about": _ABOUT,
        "settings": settings._asdict(),
        "attribute": "walls_behind",
        "hidden_from_frame": 0,
        "distribution": {name: paint.probability for name, paint in WALLS_BEHIND.items()},
        "colours": {name: paint.colour for name, paint in WALLS_BEHIND.items()},
        "scenes": {each.key: _scene_truth(each) for each in planned},
    }


def _scene_truth(planned: PlannedScene) -> dict[str, Any]:
    scene = planned.scene
    return {
        "split": planned.split,
        "walls_behind": scene.walls_behind,
        "first_frame_is_blind": shows_nothing_behind(scene),
        "rooms": scene.house.rooms,
        "cells": [_named(cell) for cell in scene.house.cells],
    }


def _named(value: Any) -> Any:
    """Convert a NamedTuple, and those in it, to dicts, so that files name each number."""
    if hasattr(value, "_asdict"):
        return {name: _named(part) for name, part in value._asdict().items()}
    return [_named(part) for part in value] if isinstance(value, tuple) else value
