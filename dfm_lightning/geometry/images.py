"""Images as tensors: centre crop and resize with adjusted intrinsics, downsampling."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from dfm_lightning.types import at_least_float32


class Box(NamedTuple):
    """A rectangle of an image in pixels from its corner; fractions of a pixel are allowed."""

    left: float
    top: float
    right: float
    bottom: float


def centre_box(width: int, height: int, aspect: float = 1.0) -> Box:
    """Return the largest box of the given aspect (width / height) around the centre of an image."""
    box_width = min(width, height * aspect)
    box_height = min(height, width / aspect)
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return Box(left, top, left + box_width, top + box_height)


def crop_intrinsics(
    intrinsics: Float[Tensor, "*n 3 3"], box: Box, width: int, height: int
) -> Float[Tensor, "*n 3 3"]:
    """Adjust normalised intrinsics of a width × height image to a crop. Resizing changes none."""
    size = torch.tensor([width, height], dtype=intrinsics.dtype, device=intrinsics.device)
    origin = torch.tensor([box.left, box.top], dtype=intrinsics.dtype, device=intrinsics.device) / size
    extent = torch.tensor([box.right - box.left, box.bottom - box.top]).to(size) / size
    cropped = intrinsics.clone()
    cropped[..., :2, 2] -= origin
    cropped[..., :2, :] /= extent[:, None]
    return cropped


def crop_and_resize(image: Image.Image, box: Box, width: int, height: int) -> Image.Image:
    """Resize the part of an image inside the box, filtered against aliasing.

    Corners map to corners, so pixel centres stay at (i + ½)/N of the box. JPEGs that have not been decoded yet are
    decoded at the smallest of their built-in scales that still has twice the required resolution.
    """
    full_width, full_height = image.size
    zoom = min((box.right - box.left) / width, (box.bottom - box.top) / height)
    if zoom > 4:
        image.draft(image.mode, (int(full_width / zoom * 2), int(full_height / zoom * 2)))
        # The decoder rounds the size up: the scale is the power of two that it chose, not the ratio of the sizes.
        scale = 2.0 ** round(np.log2(full_width / image.width))
        box = Box(*(edge / scale for edge in box))
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)


def image_to_tensor(image: Image.Image) -> Float[Tensor, "3 h w"]:
    """Convert an image of any mode to RGB in [-1, 1]."""
    array = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32))
    return array.permute(2, 0, 1).contiguous() / 127.5 - 1


def tensor_to_image(tensor: Float[Tensor, "3 h w"]) -> Image.Image:
    """Convert RGB in [-1, 1] (clamped) to an 8-bit image."""
    array = ((tensor.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(array.permute(1, 2, 0).numpy())


def square_image(
    image: Image.Image, intrinsics: Float[Tensor, "3 3"], size: int
) -> tuple[Float[Tensor, "3 {size} {size}"], Float[Tensor, "3 3"]]:
    """Crop an image to its central square and resize it; return it in [-1, 1] with its normalised intrinsics."""
    width, height = image.size
    box = centre_box(width, height)
    return (
        image_to_tensor(crop_and_resize(image, box, size, size)),
        crop_intrinsics(intrinsics, box, width, height),
    )


def downsample(images: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c h2 w2"]:
    """Reduce images to a smaller height and width; a triangle two new pixels wide filters them against aliasing.

    The computation is in float32 at least: not every device supports it in half precision.
    """
    images = images.to(at_least_float32(images))
    if images.shape[-2:] == torch.Size(size):
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)
