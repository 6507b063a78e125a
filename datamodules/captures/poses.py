"""`dfm data poses`: make a capture from photographs, or a video, whose cameras are unknown."""

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from datamodules.captures.lens import straighten
from datamodules.captures.listing import natural_key
from datamodules.captures.pictures import prepare_pictures
from datamodules.captures.structure import Order, PlacedPicture, Structure, find_structure
from datamodules.captures.top_view import draw_top_view
from datamodules.captures.transforms import TRANSFORMS_FILE
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_folder, write_json
from dfm_lightning.geometry.cameras import flip_opengl_opencv
from dfm_lightning.wording import counted

TOP_VIEW_FILE = "top_view.png"
_JPEG_QUALITY = 95


def find_poses(
    pictures: Path,
    output: Path | None = None,
    order: Literal["auto", "any", "sequence"] = "auto",
    frames: int = 100,
    seed: int = 0,
) -> None:
    """Find the cameras of photographs, or of a video, and write a capture for `dfm predict --data.root`.

    The capture has undistorted pictures, transforms.json with near and far, and a view from above. An interrupted
    run continues where it stopped.

    Args:
        pictures: a folder of photographs of one scene, or a video.
        output: folder of the capture; beside the pictures, named like them with "_capture", if null.
        order: "any" compares each picture with all others; "sequence" with those that follow it, which is faster
            for many; "auto" takes "sequence" for a video.
        frames: number of frames that are taken of a video, evenly.
        seed: seed of all random choices.
    """
    if not pictures.exists():
        raise UserError(f"there is no folder of pictures or video {pictures}")
    if frames < 3 or seed < 0:
        raise UserError(f"frames must be at least 3 and seed not negative, not {frames} and {seed}")
    output = (
        pictures.with_name(f"{pictures.stem if pictures.is_file() else pictures.name}_capture")
        if output is None
        else output
    )
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} is there already: remove it, or name another with --output")
    chosen: Order = ("sequence" if pictures.is_file() else "any") if order == "auto" else order
    work = output.with_name(f"{output.name}.unfinished")
    unreadable = prepare_pictures(pictures, frames, work, {"order": chosen, "seed": seed})
    if unreadable:
        print(f"{counted(len(unreadable), 'unreadable picture')}, such as {unreadable[0]}")
    names = sorted((path.name for path in (work / "pictures").iterdir()), key=natural_key)
    print(f"{pictures}: looking for the cameras of {counted(len(names), 'picture')}", flush=True)
    structure = find_structure(work / "pictures", work, chosen, seed)
    placed = sorted(structure.pictures, key=lambda picture: natural_key(picture.name))
    title = f"{len(placed)} of {len(names)} pictures placed"
    with whole_folder(output) as folder:
        _write(folder, work / "pictures", placed, structure, title)
    shutil.rmtree(work, ignore_errors=True)
    print(
        f"{title}, {len(structure.points)} points, {structure.error:.2f} pixels off on average; depths from near "
        f"{structure.near:.4g} to far {structure.far:.4g}. {output} is a capture for `dfm predict --data.root`; "
        f"{TOP_VIEW_FILE} shows it."
    )
    if len(placed) < len(names):
        missing = sorted(set(names) - {picture.name for picture in placed}, key=natural_key)
        print(f"not placed: {', '.join(name.removesuffix('.png') for name in missing)}")


def _write(folder: Path, pictures: Path, placed: list[PlacedPicture], structure: Structure, title: str) -> None:
    (folder / "images").mkdir()
    frames = []
    for picture in placed:
        with Image.open(pictures / picture.name) as image:
            straight = straighten(image.convert("RGB"), picture.lens)
        name = f"images/{Path(picture.name).stem}.jpg"
        straight.save(folder / name, quality=_JPEG_QUALITY)
        intrinsics = picture.lens.pinhole() * torch.tensor([[straight.width], [straight.height], [1]])
        (fx, _, cx), (_, fy, cy), _ = intrinsics.tolist()
        pose = flip_opengl_opencv(picture.pose).tolist()
        lens = {"w": straight.width, "h": straight.height, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy}
        frames.append({"file_path": name, **lens, "transform_matrix": pose})
    bounds = {"near": structure.near, "far": structure.far}
    write_json(folder / TRANSFORMS_FILE, {"camera_model": "PINHOLE", **bounds, "frames": frames})
    poses = torch.stack([picture.pose for picture in placed])
    colours = np.ascontiguousarray(structure.colours)
    draw_top_view(folder / TOP_VIEW_FILE, poses, structure.points, colours, title)
