"""Cropping and resizing, with intrinsics that follow: a painted point stays under its projection."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from dfm_lightning.geometry.cameras import intrinsics_matrix, normalise_intrinsics
from dfm_lightning.geometry.images import (
    Box,
    centre_box,
    crop_and_resize,
    crop_intrinsics,
    image_to_tensor,
    square_image,
    tensor_to_image,
)


def image_with_spot(width: int, height: int, x: float, y: float, radius: float = 12) -> Image.Image:
    """A white Gaussian spot on black, centred at (x, y) pixels from the corner."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2))
    return Image.fromarray(spot.astype(np.uint8)).convert("RGB")


def centroid(image: torch.Tensor) -> tuple[float, float]:
    """Position of the spot's centre of mass as fractions of the image."""
    weight = (image[0].double() + 1).clamp(min=0)
    height, width = weight.shape
    x = ((torch.arange(width) + 0.5) / width * weight).sum() / weight.sum()
    y = ((torch.arange(height) + 0.5) / height * weight.T).sum() / weight.sum()
    return float(x), float(y)


def test_centre_box_of_wide_and_tall_images() -> None:
    assert centre_box(640, 360) == Box(140, 0, 500, 360)
    assert centre_box(300, 401) == Box(0, 50.5, 300, 350.5)
    assert centre_box(100, 100, aspect=2.0) == Box(0, 25, 100, 75)


def test_crop_of_realestate10k_frames_multiplies_the_focal_length() -> None:
    intrinsics = intrinsics_matrix(torch.tensor([0.5, 0.9]), torch.tensor([0.5, 0.5]))
    cropped = crop_intrinsics(intrinsics, Box(140, 0, 500, 360), 640, 360)
    torch.testing.assert_close(cropped[0, 0], torch.tensor(0.5 * 640 / 360))
    torch.testing.assert_close(cropped[1, 1], torch.tensor(0.9))
    torch.testing.assert_close(cropped[:2, 2], torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize(("width", "height", "size"), [(400, 300, 64), (300, 431, 32), (64, 64, 64), (33, 47, 64)])
def test_projection_follows_the_spot(width: int, height: int, size: int) -> None:
    """The principal point is put where the spot is painted; after crop and resize it is still there."""
    x, y = 0.45 * width, 0.55 * height
    pixels = intrinsics_matrix(torch.tensor([100.0, 100.0]), torch.tensor([x, y]))
    image = image_with_spot(width, height, x, y, radius=min(width, height) / 14)
    cropped, intrinsics = square_image(image, normalise_intrinsics(pixels, width, height), size)
    found = torch.tensor(centroid(cropped))
    assert ((found - intrinsics[:2, 2]).abs() * size < 0.1).all()


def test_a_jpeg_decoded_at_a_smaller_scale_shows_the_same() -> None:
    """An odd size, where the decoder's rounding would move the image."""
    file = BytesIO()
    image_with_spot(1067, 901, 400, 300, radius=60).save(file, "JPEG", quality=95)
    box = centre_box(1067, 901)
    fast = image_to_tensor(crop_and_resize(Image.open(file), box, 32, 32))
    decoded = Image.open(file)
    decoded.load()
    slow = image_to_tensor(decoded.resize((32, 32), Image.Resampling.BICUBIC, box=box))
    assert (fast - slow).abs().max() < 0.02
    position = torch.tensor(centroid(fast)) - torch.tensor(centroid(slow))
    assert (position.abs() * 32 < 0.02).all()


def test_downsizing_does_not_alias() -> None:
    """A checkerboard of single pixels becomes even grey."""
    board = (np.indices((128, 128)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = image_to_tensor(crop_and_resize(Image.fromarray(board), Box(0, 0, 128, 128), 16, 16))
    assert small.abs().max() < 0.05


def test_tensor_and_image_there_and_back() -> None:
    array = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(np.stack([array, array.T, 255 - array], axis=-1))
    tensor = image_to_tensor(image)
    assert tensor.min() == -1
    assert tensor.max() == 1
    assert np.array_equal(np.array(tensor_to_image(tensor)), np.array(image))
