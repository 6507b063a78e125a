"""A capture of one's own: pictures of one scene, with cameras that some other program has found."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from PIL import Image
from torch import Tensor

from datamodules.captures.lens import Lens, straighten
from datamodules.image_files import UnreadableError, open_picture, to_rgb, upright
from datamodules.scenes import Scene, SceneReader
from dfm_lightning.geometry.cameras import scale_translations
from dfm_lightning.geometry.trajectories import focus_point

# Pictures are reduced to this before distortion is undone: models see far less, and lenses are easier on memory.
_LONGEST_SIDE = 1600
# How far the shape (width / height) of a picture may be from that of the image its lens was found for.
_SHAPE_TOLERANCE = 0.02


class CapturedFrame(NamedTuple):
    """A picture's file and the lens it was taken with."""

    path: Path
    lens: Lens


class Capture(Scene, SceneReader):
    """A capture as a scene, and as a data set of this one scene.

    Args:
        key: name of the scene.
        frames: the pictures in order.
        camera_to_world: their poses, OpenCV axes, in any unit of length.
        depth: typical distance from the cameras to what they see, in that unit; that of the point they look at
            if None.
        target_depth: the same in scene units: translations are scaled accordingly.
        description: what was read, to be said aloud.
    """

    def __init__(
        self,
        key: str,
        frames: list[CapturedFrame],
        camera_to_world: Float64[Tensor, "n 4 4"],
        depth: float | None,
        target_depth: float,
        description: str,
    ) -> None:
        found = depth if depth is not None else depth_of_focus(camera_to_world)
        intrinsics = {lens: lens.pinhole() for lens in {frame.lens for frame in frames}}
        super().__init__(
            key,
            scale_translations(camera_to_world, target_depth / found),
            torch.stack([intrinsics[frame.lens] for frame in frames]),
        )
        self.frames = frames
        self.description = f"{description}; a depth of {found:.4g} there is {target_depth:g} here"

    def keys(self) -> list[str]:
        return [self.key]

    def scene(self, key: str) -> Scene:
        return self

    def has_frame(self, position: int) -> bool:
        return self.frames[position].path.is_file()

    def frame(self, position: int) -> Image.Image:
        path, lens = self.frames[position]
        with open_picture(path, str(path)) as stored:
            picture = to_rgb(_fitting(stored, lens, path)).copy()
        picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
        return straighten(picture, lens)


def _fitting(picture: Image.Image, lens: Lens, path: Path) -> Image.Image:
    """The picture as it is stored, or upright by its EXIF orientation: whichever the lens was found for."""
    for candidate in (picture, upright(picture)):
        if abs(candidate.width / candidate.height * lens.height / lens.width - 1) < _SHAPE_TOLERANCE:
            return candidate
    raise UnreadableError(
        f"{path}: is {picture.width}×{picture.height} pixels, but its camera is for {lens.width:g}×{lens.height:g}"
    )


def depth_of_focus(camera_to_world: Float[Tensor, "n 4 4"]) -> float:
    """The median distance of the point that the cameras look at.

    Cameras that look at nothing in common (axes that part or run side by side) get the extent of their positions.
    """
    position, forward = camera_to_world[:, :3, 3], camera_to_world[:, :3, 2]
    depth = float(((focus_point(camera_to_world) - position) * forward).sum(dim=1).median())
    extent = float((position - position.mean(dim=0)).norm(dim=1).max())
    if np.isfinite(depth) and depth > 0.1 * extent:
        return depth
    return extent if extent > 0 else 1.0
