"""A capture: pictures of one scene, with cameras found by another program."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from datamodules.captures.lens import Lens, straighten
from datamodules.captures.listing import Listing
from datamodules.image_files import UnreadableError, open_picture, to_rgb, upright
from datamodules.posed.scenes import Scene, SceneReader
from dfm_lightning.geometry.cameras import scale_translations
from dfm_lightning.geometry.trajectories import focus_point

# Pictures are reduced to this size before undistortion: models see far less detail, and memory stays small.
_LONGEST_SIDE = 1600
# How far a picture's aspect ratio (width / height) may be from that of the image its lens was found for.
_SHAPE_TOLERANCE = 0.02


class Capture(Scene, SceneReader):
    """A capture as a scene, and as a data set of this one scene.

    Args:
        key: name of the scene.
        listing: its frames, all with a picture and a lens that can be undistorted; at least one.
        target_depth: distance, in scene units, of what the cameras typically see: translations are scaled to it.
            If the listing does not state that distance, that of the cameras' focus is used.
        description: what was read, for a message.
    """

    def __init__(self, key: str, listing: Listing, target_depth: float, description: str) -> None:
        poses = torch.stack([frame.pose for frame in listing.frames])
        found = listing.depth if listing.depth is not None else depth_of_focus(poses)
        intrinsics = torch.stack([frame.lens.pinhole() for frame in listing.frames])
        super().__init__(key, scale_translations(poses, target_depth / found), intrinsics)
        self.frames = listing.frames
        self.left_out = tuple(map(str, listing.left_out))
        self.description = f"{description}; a depth of {found:.4g} there is {target_depth:g} here"

    def keys(self) -> list[str]:
        return [self.key]

    def scene(self, key: str) -> Scene:
        return self

    def has_frame(self, position: int) -> bool:
        return self.frames[position].path.is_file()

    def frame(self, position: int) -> Image.Image:
        path, lens = self.frames[position].path, self.frames[position].lens
        with open_picture(path, str(path)) as stored:
            picture = to_rgb(_fitting(stored, lens, path)).copy()
        picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
        return straighten(picture, lens)


def _fitting(picture: Image.Image, lens: Lens, path: Path) -> Image.Image:
    """Return the picture as stored, or upright by its EXIF orientation, whichever the lens was found for."""
    for candidate in (picture, upright(picture)):
        if abs(candidate.width / candidate.height * lens.height / lens.width - 1) < _SHAPE_TOLERANCE:
            return candidate
    raise UnreadableError(
        f"{path}: is {picture.width}×{picture.height} pixels, but its camera is for {lens.width:g}×{lens.height:g}"
    )


def depth_of_focus(camera_to_world: Float[Tensor, "n 4 4"]) -> float:
    """Return the median distance of the point that the cameras look at.

    If their axes diverge or run parallel, so that there is no such point, return the extent of their positions.
    """
    position, forward = camera_to_world[:, :3, 3], camera_to_world[:, :3, 2]
    depth = float(((focus_point(camera_to_world) - position) * forward).sum(dim=1).median())
    extent = float((position - position.mean(dim=0)).norm(dim=1).max())
    if np.isfinite(depth) and depth > 0.1 * extent:
        return depth
    return extent if extent > 0 else 1.0
