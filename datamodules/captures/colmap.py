"""COLMAP's sparse models: their locations, and the parts that a capture uses."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from datamodules.captures.colmap_binary import read_binary
from datamodules.captures.colmap_files import ColmapCamera, ColmapImage, ColmapModel
from datamodules.captures.colmap_text import read_text
from datamodules.captures.lens import PERSPECTIVE, PINHOLE, FrameError, Lens, check_numbers
from datamodules.captures.listing import LeftOut, ListedFrame, Listing, check_pose, is_stray, natural_key
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import colmap_to_opencv

_READERS = {".bin": read_binary, ".txt": read_text}


def find_colmap(root: Path) -> Path | None:
    """Find the folder of a model in a capture: the root itself or a usual place in it."""
    places = (root / "sparse" / "0", root / "sparse", root / "colmap" / "sparse" / "0", root)
    return next((place for place in places if _kind(place) is not None), None)


def _kind(folder: Path) -> str | None:
    return next((k for k in _READERS if all((folder / f"{n}{k}").is_file() for n in ("cameras", "images"))), None)


def read_colmap(folder: Path, pictures: Path) -> Listing:
    """Read a model, in the natural order of its images' names.

    The typical depth is the median, over the usable images, of the depths of the points that they see.

    Args:
        folder: holds cameras, images and perhaps points3D, as binary files (.bin) or as text (.txt).
        pictures: the folder that the images' names are relative to.

    Raises:
        UserError: a file is damaged, or holds cameras of a model that COLMAP does not know.
    """
    kind = _kind(folder)
    if kind is None:
        raise UserError(f"{folder} holds no model of COLMAP: expected cameras and images, both .bin or both .txt")
    model = _READERS[kind](folder)
    frames: dict[int, ListedFrame] = {}
    left_out = []
    for number, image in sorted(model.images.items(), key=lambda item: natural_key(item[1].name)):
        where = f"image {number} ({image.name})"
        try:
            frames[number] = ListedFrame(where, _picture(pictures, image), _pose(image), _lens(model, image))
        except FrameError as error:
            left_out.append(LeftOut(where, error.kind, error.detail))
    depth = _typical_depth(model, {number: frame.pose for number, frame in frames.items()})
    return Listing("COLMAP's model", folder, list(frames.values()), left_out, depth)


def _picture(pictures: Path, image: ColmapImage) -> Path:
    path = pictures / image.name
    if is_stray(path):
        raise FrameError("the picture is a file that macOS keeps beside another", image.name)
    return path


def _pose(image: ColmapImage) -> Float64[Tensor, "4 4"]:
    quaternion, translation = (
        torch.tensor(part, dtype=torch.float64) for part in (image.quaternion, image.translation)
    )
    if not quaternion.isfinite().all() or not 1e-6 < quaternion.norm() < 1e6:
        raise FrameError("the quaternion is impossible", f"{list(image.quaternion)}")
    if not translation.isfinite().all():
        raise FrameError("the translation is not finite", f"{list(image.translation)}")
    pose = colmap_to_opencv(quaternion, translation)
    check_pose(pose)
    return pose


def _lens(model: ColmapModel, image: ColmapImage) -> Lens:
    if image.camera not in model.cameras:
        raise FrameError(f"there is no camera {image.camera}", f"cameras are {sorted(model.cameras)}"[:80])
    camera = model.cameras[image.camera]
    try:
        return colmap_lens(camera)
    except FrameError as error:
        raise FrameError(f"camera {image.camera}: {error.kind}", error.detail) from None


def colmap_lens(camera: ColmapCamera) -> Lens:
    """Build the lens of a camera. Raises FrameError if its numbers are impossible."""
    model, width, height, parameters = camera
    numbers = dict(zip(model.parameters, parameters, strict=True))
    focal = numbers.get("f", numbers.get("fx", 0.0)), numbers.get("f", numbers.get("fy", 0.0))
    centre = numbers["cx"], numbers["cy"]
    check_numbers(width, height, focal, centre, parameters)
    bent = any(value for name, value in numbers.items() if name not in ("f", "fx", "fy", "cx", "cy"))
    if model.name in PERSPECTIVE and not bent:
        return Lens(PINHOLE, width, height, (*focal, *centre))
    return Lens(model.name, width, height, parameters)


def _typical_depth(model: ColmapModel, poses: dict[int, Float64[Tensor, "4 4"]]) -> float | None:
    """Return the median depth of points in the images that see them; None without points."""
    rows = {number: row for row, number in enumerate(poses)}
    images, points = model.tracks[np.isin(model.tracks[:, 0], list(rows))].T
    if not len(images):
        return None
    pose = torch.stack(list(poses.values())).numpy()[[rows[image] for image in images.tolist()]]
    depths = ((model.points[points] - pose[:, :3, 3]) * pose[:, :3, 2]).sum(axis=1)
    seen = depths[np.isfinite(depths) & (depths > 0)]
    return float(np.median(seen)) if len(seen) else None
