"""Prepare photographs of a folder, or frames of a video, for a program that finds their cameras."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
from PIL import Image

from datamodules.captures.listing import PICTURES, list_pictures, natural_key
from datamodules.image_files import UnreadableError, read_picture
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_folder, write_json

# Pictures are reduced to this size: more detail makes finding points slower, and their positions no better.
LONGEST_SIDE = 1600
_MADE_FROM = "made_from.json"


def prepare_pictures(source: Path, frames: int, folder: Path, settings: dict[str, Any]) -> list[str]:
    """Write pictures as a viewer shows them, reduced, into `folder`/pictures, in natural order of their names.

    Files in `folder` from an interrupted run are reused if they were made from the same files with the same
    settings, and removed otherwise.

    Args:
        source: a folder of photographs, or a video.
        frames: number of frames that are taken of a video, evenly.
        folder: where to work.
        settings: what else the content of `folder` depends on.

    Returns:
        The photographs that cannot be read, with the reason.

    Raises:
        UserError: there is nothing to read.
    """
    files = (
        [source] if source.is_file() else sorted(list_pictures(source), key=lambda path: natural_key(path.name))
    )
    if not files:
        raise UserError(f"{source} holds no pictures: expected {', '.join(sorted(PICTURES))}")
    stamps = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    made_from = {"files": stamps, "frames": frames, **settings}
    if _read(folder / _MADE_FROM) != made_from:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / _MADE_FROM, made_from)
    unreadable: list[str] = []
    with whole_folder(folder / "pictures") as pictures:
        found = _video_frames(source, frames) if source.is_file() else _photographs(files, unreadable)
        for name, picture in found:
            picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
            picture.save(pictures / f"{name}.png", compress_level=1)
    return unreadable


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _photographs(files: list[Path], unreadable: list[str]) -> Iterator[tuple[str, Image.Image]]:
    stems = Counter(path.stem for path in files)
    for path in files:
        try:
            picture = read_picture(path, str(path))
        except UnreadableError as error:
            unreadable.append(str(error))
            continue
        yield path.stem if stems[path.stem] == 1 else path.name.replace(".", "_"), picture.copy()


def _video_frames(path: Path, frames: int) -> Iterator[tuple[str, Image.Image]]:
    try:
        count, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
        wanted = set(np.linspace(0, count - 1, min(frames, count)).round().astype(int).tolist())
        for number, frame in enumerate(imageio.imiter(path, plugin="FFMPEG")):
            if number in wanted:
                yield f"frame_{number:06d}", Image.fromarray(frame)
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{path} should be a video or a folder of pictures: {reason[-1]}") from None
