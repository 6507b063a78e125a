"""Render the frames of synthetic clips."""

import numpy as np
from jaxtyping import Float64, UInt8

from datamodules.synthetic.clips.scene import Shape, Texture
from datamodules.vimeo90k.truth import BACKGROUND

# Samples along each side of a pixel.
_SUPERSAMPLING = 3


def render(
    background: Texture, shapes: list[Shape], poses: Float64[np.ndarray, "s 2 3"], height: int, width: int
) -> tuple[Float64[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Render a frame in [0, 1], and the number of the shape at each pixel's centre, 0 for the background.

    Later shapes are in front of earlier ones. Pixel centres are at whole numbers.
    """
    fine = _SUPERSAMPLING
    x, y = _grid(height, width, fine)
    image = background.colours(x, y)
    for shape, pose in zip(shapes, poses, strict=True):
        u, v = _own_coordinates(pose, x, y)
        covered = shape.covers(u, v)
        image[covered] = shape.texture.colours(u[covered], v[covered])
    averaged = image.reshape(height, fine, width, fine, 3).mean(axis=(1, 3))
    return averaged, _numbers(shapes, poses, height, width)


def _numbers(
    shapes: list[Shape], poses: Float64[np.ndarray, "s 2 3"], height: int, width: int
) -> UInt8[np.ndarray, "h w"]:
    x, y = _grid(height, width, 1)
    numbers = np.full(x.shape, BACKGROUND, np.uint8)
    for index, (shape, pose) in enumerate(zip(shapes, poses, strict=True)):
        numbers[shape.covers(*_own_coordinates(pose, x, y))] = index + 1
    return numbers


def _grid(height: int, width: int, fine: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = ((np.arange(size * fine) + 0.5) / fine - 0.5 for size in (width, height))
    columns, rows = np.meshgrid(x, y)
    return columns, rows


def _own_coordinates(
    pose: Float64[np.ndarray, "2 3"], x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    inverse = np.linalg.inv(pose[:, :2])
    dx, dy = x - pose[0, 2], y - pose[1, 2]
    return inverse[0, 0] * dx + inverse[0, 1] * dy, inverse[1, 0] * dx + inverse[1, 1] * dy
