"""A photograph of one's own as the context of a prediction, and cameras that move away from it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float64
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from PIL import ExifTags, Image
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.image_files import UnreadableError, open_picture, to_rgb, upright
from datamodules.views import PosedImages, make_request
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import intrinsics_matrix, look_at
from dfm_lightning.geometry.images import square_image
from dfm_lightning.types import Request

# The diagonal of a 35 mm film frame, 36 × 24, in millimetres.
_FILM_DIAGONAL = math.hypot(36, 24)
DEFAULT_FIELD_OF_VIEW = 60.0
# EXIF's units of pixel densities, in millimetres.
_PER_INCH = 2
_MILLIMETRES = {_PER_INCH: 25.4, 3: 10.0, 4: 1.0}

MoveKind = Literal["forward", "orbit", "sway", "spiral"]


@dataclass
class CameraMove:
    """How the camera moves in a prediction from a photograph.

    Args:
        kind: forward: straight on. orbit: on a circle around what is in the middle, looking at it. sway: to the
            side and back, looking at it. spiral: on a circle across the viewing direction while it goes forward
            and back, looking at it.
        size: how far, in units of the distance to what is in the middle: the way forward, the length of the arc
            (6.28 is once around), the greatest way to the side, the diameter of the spiral. To the right if
            positive.
        frames: number of cameras. The first is the photograph's.
    """

    kind: MoveKind = "forward"
    size: float = 0.5
    frames: int = 48

    def __post_init__(self) -> None:
        if not math.isfinite(self.size) or self.frames < 2:
            raise UserError(f"a camera move needs a finite size and at least 2 frames, not {self}")

    def poses(self, distance: float) -> Float64[Tensor, "n 4 4"]:
        """Camera-to-world poses in the world of the first of them, which looks at a point at this distance."""
        part = torch.linspace(0, 1, self.frames, dtype=torch.float64)
        turn, zero, reach = 2 * math.pi * part, torch.zeros_like(part), self.size * distance
        middle = torch.tensor([0.0, 0.0, distance], dtype=torch.float64).expand(self.frames, 3)
        there_and_back = (1 - turn.cos()) / 2 * reach
        up = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
        if self.kind == "forward":
            position = torch.stack([zero, zero, part * reach], dim=1)
            return look_at(position, position + middle, up)
        if self.kind == "orbit":
            angle = part * self.size
            position = torch.stack([angle.sin() * distance, zero, (1 - angle.cos()) * distance], dim=1)
        elif self.kind == "sway":
            position = torch.stack([there_and_back, zero, zero], dim=1)
        else:
            position = torch.stack([turn.sin() * reach / 2, -there_and_back.abs(), there_and_back.abs()], dim=1)
        return look_at(position, middle, up)


def photograph_camera(picture: Image.Image, field_of_view: float | None) -> tuple[Float64[Tensor, "3 3"], str]:
    """Normalised intrinsics of a photograph (upright by its EXIF orientation), and where they are from.

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
    """Focal length in pixels from EXIF data, and which; `diagonal` is the picture's in pixels."""
    try:
        details = picture.getexif().get_ifd(ExifTags.IFD.Exif)
    except Exception:  # damaged EXIF data fail in as many ways as there are types in them; the picture may be fine
        return None, ""
    equivalent = _positive(details.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if equivalent:
        return equivalent / _FILM_DIAGONAL * diagonal, f"EXIF: {equivalent:g} mm equivalent"
    focal = _positive(details.get(ExifTags.Base.FocalLength))
    density = _positive(details.get(ExifTags.Base.FocalPlaneXResolution))
    unit = details.get(ExifTags.Base.FocalPlaneResolutionUnit, _PER_INCH)
    taken_width = _positive(details.get(ExifTags.Base.ExifImageWidth))
    if focal and density and taken_width and unit in _MILLIMETRES:
        # The density is that of the picture as it was taken, which may have been made smaller since.
        in_pixels = focal * density / _MILLIMETRES[unit] * max(picture.size) / taken_width
        return in_pixels, f"EXIF: {focal:g} mm on its sensor"
    return None, ""


def _positive(value: Any) -> float | None:
    """A number above zero out of EXIF data, which may hold anything."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


class PhotographRequest(Dataset):
    """One request: to see a photograph's scene while the camera moves.

    The largest square in the photograph's middle is used, as of any other picture.

    Args:
        path: the photograph.
        move: how the camera moves.
        image_size: height and width of the context in pixels.
        output_size: height and width of the predicted views.
        distance: of what is in the photograph's middle, in scene units.
        field_of_view: as in `photograph_camera`.
        camera_to_world: the photograph's absolute pose, for models that are given it; the identity if None.
    """

    def __init__(
        self,
        path: Path,
        move: CameraMove,
        image_size: int,
        output_size: int,
        distance: float,
        field_of_view: float | None = None,
        camera_to_world: Float64[Tensor, "4 4"] | None = None,
    ) -> None:
        try:
            with open_picture(path, str(path)) as picture:
                intrinsics, source = photograph_camera(picture, field_of_view)
                shown = to_rgb(upright(picture))
                shown.load()
        except UnreadableError as error:
            raise UserError(str(error)) from None
        rank_zero_info(f"{path}: {shown.width}×{shown.height} pixels, {source}")
        pose = torch.eye(4, dtype=torch.float64) if camera_to_world is None else camera_to_world
        image, cropped = square_image(shown, intrinsics, image_size)
        context = PosedImages(image[None], pose[None], cropped[None])
        self.request = make_request(path.stem, context, pose @ move.poses(distance), output_size)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Request:
        return self.request
