"""Pictures for people: conversion to bytes, colour maps, labelled grids, PNG files."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dfm_lightning.files import whole_file

RGB = UInt8[np.ndarray, "_ _ 3"]
MARGIN = 4
LABEL_HEIGHT = 18
LABEL_WIDTH = 90


def images_to_uint8(images: Float[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n h w 3"]:
    """Convert images in [-1, 1] with one or three channels to RGB bytes; clamp values outside."""
    pixels = ((images.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round()
    return pixels.byte().permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()


def image_to_uint8(image: Float[Tensor, "c h w"]) -> RGB:
    """Convert one image in [-1, 1] to RGB bytes."""
    return images_to_uint8(image[None])[0]


def colour_map(
    values: Float[Tensor, "*n h w"], low: float, high: float, name: str = "turbo"
) -> UInt8[np.ndarray, "*n h w 3"]:
    """Map values from `low` to `high` to the colours of a matplotlib colour map; clamp values outside."""
    unit = ((values.detach().float().cpu() - low) / max(high - low, 1e-12)).clamp(0, 1)
    return matplotlib.colormaps[name](unit.numpy(), bytes=True)[..., :3]


def write_png(path: Path, image: np.ndarray) -> None:
    """Write a whole PNG file: h×w×3 bytes in colour, h×w bytes or 16-bit numbers in grey."""
    with whole_file(path) as aside:
        Image.fromarray(np.ascontiguousarray(image)).save(aside, format="PNG")


def enlarge(image: RGB, size: int) -> RGB:
    """Repeat pixels so that the shorter side has at least `size` of them; small images stay crisp."""
    times = max(1, -(-size // min(image.shape[:2])))
    return image.repeat(times, axis=0).repeat(times, axis=1)


def side_by_side(images: Sequence[RGB]) -> RGB:
    """Join images of one height in a row, with a white margin between them."""
    gap = np.full((images[0].shape[0], MARGIN, 3), 255, np.uint8)
    parts = [part for image in images for part in (image, gap)]
    return np.concatenate(parts[:-1], axis=1)


def labelled_grid(
    rows: Sequence[Sequence[RGB | None]],
    column_labels: Sequence[str],
    row_labels: Sequence[str],
    cell: int = 128,
) -> RGB:
    """Arrange images of one size on a sheet, each at least `cell` pixels, with labels above and to the left.

    A cell given as None stays white.
    """
    height, width = next(enlarge(image, cell).shape[:2] for row in rows for image in row if image is not None)
    sheet_width = LABEL_WIDTH + len(column_labels) * (width + MARGIN)
    sheet = Image.new("RGB", (sheet_width, LABEL_HEIGHT + len(rows) * (height + MARGIN)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    for column, label in enumerate(column_labels):
        draw.text((LABEL_WIDTH + column * (width + MARGIN), 2), label, fill="black", font=font)
    for index, (row, label) in enumerate(zip(rows, row_labels, strict=True)):
        top = LABEL_HEIGHT + index * (height + MARGIN)
        draw.text((2, top + height // 2 - 6), label, fill="black", font=font)
        for column, image in enumerate(row):
            if image is not None:
                sheet.paste(Image.fromarray(enlarge(image, cell)), (LABEL_WIDTH + column * (width + MARGIN), top))
    return np.asarray(sheet)
