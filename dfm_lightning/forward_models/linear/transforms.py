"""Orthonormal transforms that operators are expressed in."""

import torch
from jaxtyping import Float
from torch import Tensor


def hartley(values: Float[Tensor, "*n"], dims: int) -> Float[Tensor, "*n"]:
    """Apply the orthonormal Hartley transform over the last dimensions: Fourier's real minus its imaginary part.

    It is its own inverse and its own transpose.
    """
    spectrum = torch.fft.fftn(values, dim=tuple(range(-dims, 0)), norm="ortho")
    return spectrum.real - spectrum.imag
