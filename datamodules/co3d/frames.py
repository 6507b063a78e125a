"""Read the files of a frame: image, mask, depth."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from datamodules.co3d.sequences import Frame
from datamodules.image_files import UnreadableError, open_picture, to_rgb, upright
from dfm_lightning.geometry.images import centre_box, crop_and_resize, square_image

# An image in [-1, 1] with no larger value counts as all black: JPEG turns black into such values.
_BLACK = -0.95


def read_view(
    frame: Frame, intrinsics: Float[Tensor, "3 3"], size: int
) -> tuple[Float[Tensor, "3 {size} {size}"], Float[Tensor, "3 3"]]:
    """Read a frame's image, cropped to its central square and resized, and its intrinsics.

    Raises:
        UnreadableError: the camera cannot be used, the file is missing or damaged, its size differs from the
            annotation, or the image is all black, as the redacted images of the test set are.
    """
    # Decoded within the block: large JPEGs only as far as the size requires.
    with open_frame(frame) as picture:
        image, cropped = square_image(picture, intrinsics, size)
    if image.max() < _BLACK:
        raise UnreadableError(f"{frame.path}: is all black, and therefore redacted: it cannot be used")
    return image, cropped


@contextmanager
def open_frame(frame: Frame) -> Iterator[Image.Image]:
    """Open a frame's picture, RGB and oriented as its annotation expects; decode it within the block.

    Raises:
        UnreadableError: as `read_view`, except for all-black images.
    """
    if frame.problem is not None:
        raise UnreadableError(f"{frame.path}: {frame.problem}")
    with open_picture(frame.path, str(frame.path)) as stored:
        yield to_rgb(_annotated(stored, frame))


def _annotated(stored: Image.Image, frame: Frame) -> Image.Image:
    """Return the picture upright by its EXIF orientation or, if its annotation fits that, as it is stored."""
    for candidate in (upright(stored), stored):
        if candidate.size == (frame.size[1], frame.size[0]):
            return candidate
    found, expected = (f"{width}×{height}" for width, height in (stored.size, frame.size[::-1]))
    raise UnreadableError(f"{frame.path}: is {found} pixels, but its annotation says {expected}")


def read_mask(frame: Frame, size: int) -> Float[Tensor, "1 {size} {size}"]:
    """Read the foreground's probability, cropped and resized like the image."""
    if frame.mask_path is None:
        raise UnreadableError(f"{frame.path}: has no mask")
    with open_picture(frame.mask_path, str(frame.mask_path)) as picture:
        grey = crop_and_resize(to_rgb(picture).convert("L"), centre_box(*picture.size), size, size)
    return torch.from_numpy(np.array(grey, dtype=np.float32))[None] / 255


def read_depth(root: Path, frame: Frame) -> tuple[Float[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Read depth along the camera's z axis in the data set's units, and a mask of where it is known."""
    if frame.depth is None:
        raise UnreadableError(f"{frame.path}: has no depth")
    path, unit = root / frame.depth.path, frame.depth.scale_adjustment
    if not 0 < unit < float("inf"):
        raise UnreadableError(f"{path}: its scale_adjustment is {unit:g}, expected a number above 0")
    with open_picture(path, str(path)) as picture:
        bits = np.array(picture)
    # (Older versions of Pillow return the 16 bits in 32.)
    if bits.ndim != 2 or bits.dtype not in (np.uint16, np.int32):
        raise UnreadableError(f"{path}: expected one channel of 16 bits, not a picture of mode {picture.mode}")
    # The bits of a 16-bit PNG are those of a half float.
    depth = bits.astype(np.uint16).view(np.float16).astype(np.float32) * np.float32(unit)
    known = np.isfinite(depth) & (depth > 0)
    if frame.depth.mask_path is not None:
        known &= _read_bits(root / frame.depth.mask_path, depth.shape)
    return depth, known


def _read_bits(path: Path, shape: tuple[int, ...]) -> Bool[np.ndarray, "h w"]:
    with open_picture(path, str(path)) as picture:
        bits = np.array(picture) > 0
    if bits.shape != shape:
        raise UnreadableError(f"{path}: is of another size than its depth")
    return bits
