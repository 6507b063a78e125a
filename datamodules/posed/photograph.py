"""A photograph as a scene of one frame."""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from PIL import ExifTags, Image
from torch import Tensor

from datamodules.image_files import UnreadableError, open_picture, to_rgb, upright
from datamodules.posed.scenes import Scene, SceneReader
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import intrinsics_matrix

# The diagonal of a 35 mm film frame, 36 × 24, in millimetres.
_FILM_DIAGONAL = math.hypot(36, 24)
DEFAULT_FIELD_OF_VIEW = 60.0
# EXIF's units of pixel densities, in millimetres.
_PER_INCH = 2
_MILLIMETRES = {_PER_INCH: 25.4, 3: 10.0, 4: 1.0}


def photograph_camera(picture: Image.Image, field_of_view: float | None) -> tuple[Float64[Tensor, "3 3"], str]:
    """Determine normalised intrinsics of a photograph (upright by its EXIF orientation), and name their source.

    Args:
        picture: with its EXIF data.
        field_of_view: angle that the longer side spans, in degrees; EXIF's focal length, or 60 degrees, if None.
    """
    width, height = upright(picture).size
    focal, source = None, ""
    if field_of_view is None:
        focal, source = _exif_focal(picture, math.hypot(width, height))
    if focal is None:
        angle = DEFAULT_FIELD_OF_VIEW if field_of_view is None else field_of_view
        if not 0 < angle < 180:
            raise UserError(f"the field of view must be between 0 and 180 degrees, got {angle}")
        focal = max(width, height) / 2 / math.tan(math.radians(angle) / 2)
        assumed = " (assumed: its EXIF data have no focal length)" if field_of_view is None else ""
        source = f"a field of view of {angle:g} degrees{assumed}"
    size = torch.tensor([width, height], dtype=torch.float64)
    return intrinsics_matrix(focal / size, torch.full((2,), 0.5, dtype=torch.float64)), source


def _exif_focal(picture: Image.Image, diagonal: float) -> tuple[float | None, str]:
    """Read the focal length in pixels from EXIF data, and its source; `diagonal` is the picture's in pixels."""
    try:
        details = picture.getexif().get_ifd(ExifTags.IFD.Exif)
    except Exception:  # damaged EXIF data raise many kinds of errors; the picture may still be fine
        return None, ""
    equivalent = _positive(details.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if equivalent:
        return equivalent / _FILM_DIAGONAL * diagonal, f"EXIF: {equivalent:g} mm equivalent"
    focal = _positive(details.get(ExifTags.Base.FocalLength))
    density = _positive(details.get(ExifTags.Base.FocalPlaneXResolution))
    unit = details.get(ExifTags.Base.FocalPlaneResolutionUnit, _PER_INCH)
    taken_width = _positive(details.get(ExifTags.Base.ExifImageWidth))
    if focal and density and taken_width and unit in _MILLIMETRES:
        # The density is that of the picture as taken; it may have been resized since.
        in_pixels = focal * density / _MILLIMETRES[unit] * max(picture.size) / taken_width
        return in_pixels, f"EXIF: {focal:g} mm on its sensor"
    return None, ""


def _positive(value: Any) -> float | None:
    """Take a number above zero from EXIF data, which may hold anything."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


class Photograph(Scene, SceneReader):
    """A photograph as a scene of one frame, and as a data set of this one scene.

    Args:
        path: the photograph.
        field_of_view: as in `photograph_camera`.
        camera_to_world: its absolute pose, for models that take one; the identity if None.

    Raises:
        UserError: the photograph cannot be read.
    """

    def __init__(
        self,
        path: Path,
        field_of_view: float | None = None,
        camera_to_world: Float64[Tensor, "4 4"] | None = None,
    ) -> None:
        try:
            with open_picture(path, str(path)) as picture:
                intrinsics, source = photograph_camera(picture, field_of_view)
                self.picture = to_rgb(upright(picture))
                self.picture.load()
        except UnreadableError as error:
            raise UserError(str(error)) from None
        self.description = f"{self.picture.width}×{self.picture.height} pixels, {source}"
        pose = torch.eye(4, dtype=torch.float64) if camera_to_world is None else camera_to_world
        super().__init__(path.stem, pose[None], intrinsics[None])

    def keys(self) -> list[str]:
        """List the scene's name."""
        return [self.key]

    def scene(self, key: str) -> Scene:
        """Open the scene."""
        return self

    def frame(self, position: int) -> Image.Image:
        """Return the photograph."""
        return self.picture
