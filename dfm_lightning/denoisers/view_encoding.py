"""Noisy images as inputs of a 2D network: scaled to unit variance, and at lower resolutions."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

# Standard deviation of images in [-1, 1], as EDM's preconditioning takes it.
DATA_DEVIATION = 0.5
# Sides of the squares of pixels whose means the blurred inputs show.
BLURS = (2, 4, 8)


class Preconditioning(NamedTuple):
    """EDM's coefficients (Karras et al. 2022, table 1) for x = √ᾱ x_0 + √(1 − ᾱ) ε, shaped [b 1 1 1].

    The clean image is estimated as skip · x + out · network(into · x).
    """

    skip: Float[Tensor, "b 1 1 1"]
    out: Float[Tensor, "b 1 1 1"]
    into: Float[Tensor, "b 1 1 1"]


def preconditioning(signal_rate: Float[Tensor, " b"], noise_rate: Float[Tensor, " b"]) -> Preconditioning:
    """Return the coefficients at given √ᾱ and √(1 − ᾱ), for data of standard deviation ½."""
    variance = (signal_rate * DATA_DEVIATION).square() + noise_rate.square()
    skip = signal_rate * DATA_DEVIATION**2 / variance
    out = DATA_DEVIATION * noise_rate / variance.sqrt()
    return Preconditioning(*(part.view(-1, 1, 1, 1) for part in (skip, out, variance.rsqrt())))


def blurs(
    images: Float[Tensor, "b 3 h w"], signal_rate: Float[Tensor, " b"], noise_rate: Float[Tensor, " b"]
) -> Float[Tensor, "b c h w"]:
    """Reduce noisy images and smoothly enlarge them again, each scaled to about unit variance."""
    size = images.shape[-2:]
    found = []
    for side in BLURS:
        small = F.adaptive_avg_pool2d(images, (max(size[0] // side, 1), max(size[1] // side, 1)))
        into = preconditioning(signal_rate, noise_rate / side).into
        found.append(into * F.interpolate(small, size=size, mode="bilinear", align_corners=False))
    return torch.cat(found, dim=1)
