"""Kernels of motion blur: the path of a shaking camera during an exposure."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

# Points drawn for each pixel of the path's length.
_POINTS_A_PIXEL = 4


def motion_kernel(size: int, intensity: float, generator: torch.Generator) -> Float[Tensor, "size size"]:
    """Draw the kernel of a random movement, with a sum of 1 and its centre of mass in the kernel's middle.

    The path is ¾ (u + i² u') of the diagonal long, u and u' uniform in [0, 1]; it starts in any direction and
    turns at random, by a standard deviation of π i over its length; its speed varies uniformly between pauses and
    jerks. (These are the proportions of the generator that the InvFusion paper uses; its numbers are not
    reproduced.)

    Args:
        size: height and width of the kernel in pixels.
        intensity: i, from 0 (straight and even) to 1 (crooked).
        generator: source of all random numbers.
    """

    def uniform() -> float:
        return float(torch.rand((), generator=generator, dtype=torch.float64))

    length = 0.75 * math.sqrt(2) * size * (uniform() + intensity**2 * uniform())
    steps = max(math.ceil(length * _POINTS_A_PIXEL), 1)
    turns = torch.randn(steps, generator=generator, dtype=torch.float64) * (math.pi * intensity / math.sqrt(steps))
    heading = 2 * math.pi * uniform() + turns.cumsum(0)
    way = torch.stack([heading.sin(), heading.cos()], dim=1).cumsum(0) * (length / steps)
    dwell = torch.rand(steps, generator=generator, dtype=torch.float64) * intensity + (1 - intensity)
    centre = (way * dwell[:, None]).sum(0) / dwell.sum()
    return _splatted(way - centre + size // 2, dwell, size).float()


def _splatted(points: Float[Tensor, "n 2"], weights: Float[Tensor, " n"], size: int) -> Float[Tensor, "size size"]:
    """Spread each point over the four pixels around it; points outside are dropped."""
    kernel = torch.zeros(size * size, dtype=points.dtype)
    corner = points.floor()
    for row in (0, 1):
        for column in (0, 1):
            offset = torch.tensor([row, column], dtype=points.dtype)
            place = (corner + offset).long()
            share = (1 - (points - place).abs()).prod(dim=1) * weights
            inside = ((place >= 0) & (place < size)).all(dim=1)
            kernel.index_add_(0, (place[:, 0] * size + place[:, 1])[inside], share[inside])
    return (kernel / kernel.sum()).view(size, size)


def smoothed(kernel: Float[Tensor, "size size"], deviation: float) -> Float[Tensor, "size size"]:
    """Convolve a kernel with a Gaussian of a standard deviation in pixels; parts that leave the kernel are
    dropped.
    """
    places = torch.arange(len(kernel), dtype=torch.float64)
    gaussian = (-((places[:, None] - places) ** 2) / (2 * deviation**2)).exp()
    blurred = gaussian @ kernel.double() @ gaussian
    return (blurred / blurred.sum()).to(kernel.dtype)
