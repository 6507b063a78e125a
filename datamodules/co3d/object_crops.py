"""Square crops of frames around the object that their mask shows, on black."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from datamodules.co3d.frames import open_frame
from datamodules.co3d.sequences import Frame
from datamodules.image_files import UnreadableError, open_picture, to_rgb
from dfm_lightning.geometry.images import Box, crop_and_resize, crop_intrinsics, image_to_tensor
from dfm_lightning.ranges import check_at_least, check_within


@dataclass
class ObjectCrop:
    """Crop frames around the object that their mask shows; the defaults are SparseFusion's.

    The part of a crop outside the picture is black.

    Args:
        margin: how much larger than the object's box, as a share of it, the crop is.
        threshold: probability above which a pixel counts as the object's for its box.
        masked: whether pictures are multiplied by their masks, so that the background is black.
    """

    margin: float = 0.3
    threshold: float = 0.4
    masked: bool = True

    def __post_init__(self) -> None:
        check_at_least(0, margin=self.margin)
        check_within(0, 1, threshold=self.threshold)

    def view(
        self, frame: Frame, intrinsics: Float[Tensor, "3 3"], size: int
    ) -> tuple[Float[Tensor, "3 {size} {size}"], Float[Tensor, "3 3"]]:
        """Read a frame's crop as an image in [-1, 1], with its intrinsics. Raises UnreadableError."""
        mask = self._whole_mask(frame)
        box = self.box(mask, frame)
        with open_frame(frame) as picture:
            if picture.size != (mask.shape[1], mask.shape[0]):
                raise UnreadableError(f"{frame.mask_path}: is of another size than its picture")
            width, height = picture.size
            image = image_to_tensor(_cut(picture, box, size))
        if self.masked:
            image = (image + 1) * torch.from_numpy(_cut_mask(mask, box, size))[None] - 1
        return image, crop_intrinsics(intrinsics, box, width, height)

    def mask(self, frame: Frame, size: int) -> Float[Tensor, "1 {size} {size}"]:
        """Read the foreground's probability in a frame's crop. Raises UnreadableError."""
        mask = self._whole_mask(frame)
        return torch.from_numpy(_cut_mask(mask, self.box(mask, frame), size))[None]

    def valid(self, frame: Frame, size: int) -> Float[Tensor, "1 {size} {size}"]:
        """Mark the part of a frame's crop that lies in its picture: 1 there, 0 outside. Raises UnreadableError."""
        mask = self._whole_mask(frame)
        inside = _cut_mask(np.ones_like(mask), self.box(mask, frame), size)
        return torch.from_numpy((inside > 0.5).astype(np.float32))[None]

    def box(self, mask: Float[np.ndarray, "h w"], frame: Frame) -> Box:
        """Return the square around the object, in whole pixels; it may reach beyond the picture.

        Raises:
            UnreadableError: the mask is empty.
        """
        shown = mask > self.threshold
        rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
        if not len(rows):
            raise UnreadableError(f"{frame.mask_path}: no pixel is above {self.threshold:g}: the mask is empty")
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        side = max(2, round(max(bottom - top, right - left) * (1 + self.margin)))
        first_column, first_row = round((left + right - side) / 2), round((top + bottom - side) / 2)
        return Box(first_column, first_row, first_column + side, first_row + side)

    def _whole_mask(self, frame: Frame) -> Float[np.ndarray, "h w"]:
        if frame.mask_path is None:
            raise UnreadableError(f"{frame.path}: has no mask to find its object by")
        with open_picture(frame.mask_path, str(frame.mask_path)) as picture:
            return np.array(to_rgb(picture).convert("L"), dtype=np.float32) / 255


def _cut(picture: Image.Image, box: Box, size: int) -> Image.Image:
    """Cut a part out of a picture, at a new size; black where it reaches beyond the picture."""
    cut = picture.crop((int(box.left), int(box.top), int(box.right), int(box.bottom)))
    return crop_and_resize(cut, Box(0, 0, *cut.size), size, size)


def _cut_mask(mask: Float[np.ndarray, "h w"], box: Box, size: int) -> Float[np.ndarray, "{size} {size}"]:
    cut = _cut(Image.fromarray((mask * 255).round().astype(np.uint8)), box, size)
    return np.array(cut, dtype=np.float32) / 255
