"""Orthonormal transforms that operators are written in."""

import torch
from jaxtyping import Float
from torch import Tensor


def hartley(values: Float[Tensor, "*n"], dims: int) -> Float[Tensor, "*n"]:
    """The orthonormal Hartley transform over the last dimensions: the real minus the imaginary part of Fourier's.

    Its own inverse and its own transpose.
    """
    spectrum = torch.fft.fftn(values, dim=tuple(range(-dims, 0)), norm="ortho")
    return spectrum.real - spectrum.imag
