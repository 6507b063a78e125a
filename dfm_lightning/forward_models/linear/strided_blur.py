"""Blur and sub-sampling at once, measured in Fourier coefficients: the InvFusion paper's strided blur."""

import functools
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear.operator import (
    ALL_ABILITIES,
    Ability,
    Decomposition,
    HoldsImageShape,
    blank,
    promoted,
)
from dfm_lightning.types import at_least_float32

# Frequencies whose transmission is below this share of the range (largest minus smallest) do not pass at all.
_LEAST_PASSED = 1e-4
# Singular values below this share of the largest count as 0, as in the reference values of the pseudo-inverse.
RELATIVE_CUT = 1e-5
# The greatest number of pixels for a dense decomposition, whose time grows with the third power.
_MOST_PIXELS = 4096
_CHUNK = 256


class _Strided(NamedTuple):
    """Factors on the frequencies of a canvas of twice the image; their inverses after aliasing; the shape.

    The stride is the ratio of the first two tensors' sizes.
    """

    spectrum: Float[Tensor, "*b h2 w2 2"]
    folded_inverse: Float[Tensor, "*b p q"]
    blank: Float[Tensor, "*b c h w 0"]


class StridedBlur(HoldsImageShape, _Strided):
    """Every s-th pixel of a blurred image, on a black canvas of twice its size, as Fourier coefficients.

    A measurement [c, 2h/s, 4w/s] holds 2h/s × 2w/s coefficients a channel, real and imaginary parts side by side.
    Since they belong to a real image, half of them are redundant. The norm depends on the stride, so that the same
    noise σ_y on the coefficients is another problem for each stride (at 64 px it is about 31, 7.6 and 1.8 for
    strides 2, 4 and 8).

    The pseudo-inverse is the true one, by a dense decomposition of the operator, for images of at most 64 × 64
    pixels; singular values below 10⁻⁵ of the largest count as 0. Recent decompositions are cached. Made by
    `strided_blur`.
    """

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """See `LinearOperator.measurement_shape`."""
        rows, columns = self.folded_inverse.shape[-2:]
        return (self.image_shape[0], rows, 2 * columns)

    @property
    def stride(self) -> int:
        """Return the distance of the pixels that are kept."""
        return self.spectrum.shape[-3] // self.folded_inverse.shape[-2]

    @property
    def abilities(self) -> frozenset[Ability]:
        """See `LinearOperator.abilities`: for large images the adjoint only."""
        _, height, width = self.image_shape
        return ALL_ABILITIES if height * width <= _MOST_PIXELS else frozenset({"adjoint"})

    def decompose(self) -> Decomposition:
        """See `LinearOperator.decompose`; dense."""
        shape, factors = self.image_shape, self._factors()
        values = factors.values[:, None].expand(-1, shape[0], -1).flatten(1)

        def to_right(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
            basis, given = promoted(factors.right, image.flatten(2))
            return torch.einsum("bij,bcj->bci", basis, given).flatten(1)

        def from_right(coordinates: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
            basis, given = promoted(factors.right, coordinates.unflatten(1, (shape[0], -1)))
            return torch.einsum("bij,bci->bcj", basis, given).view(-1, *shape)

        def to_left(measurement: Float[Tensor, "b c p q"]) -> Float[Tensor, "b n"]:
            basis, given = promoted(factors.left, self._real(measurement[:, None])[:, 0])
            found = torch.einsum("bmi,bcm->bci", basis, given) * (factors.values[:, None, : basis.shape[2]] > 0)
            return torch.nn.functional.pad(found, (0, factors.right.shape[1] - found.shape[2])).flatten(1)

        return Decomposition(values, to_right, from_right, to_left)

    def _coefficients(self) -> Tensor:
        return torch.view_as_complex(self.spectrum.to(at_least_float32(self.spectrum)).contiguous())[:, None, None]

    def _complex(self, measurement: Float[Tensor, "b k c p q2"]) -> Tensor:
        precise = measurement.to(at_least_float32(measurement))
        return torch.view_as_complex(precise.unflatten(-1, (-1, 2)).contiguous())

    def _real(self, measurement: Float[Tensor, "b k c p q2"]) -> Float[Tensor, "b k c m"]:
        """Return the real image of every s-th pixel nearest to the coefficients; flat, by the orthonormal
        transform.
        """
        return torch.fft.ifft2(self._complex(measurement), norm="ortho").real.flatten(3)

    def _back(self, coefficients: Tensor) -> Float[Tensor, "b k c h w"]:
        """Return the part on the image of a canvas with repeated coefficients, after the blur's transpose."""
        _, height, width = self.image_shape
        repeated = coefficients.repeat(1, 1, 1, self.stride, self.stride) * self._coefficients().conj()
        return torch.fft.ifft2(repeated).real[..., :height, :width]

    def _apply(self, image: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k c p q2"]:
        canvas = (2 * image.shape[-2], 2 * image.shape[-1])
        spectrum = torch.fft.fft2(image.to(at_least_float32(image)), s=canvas) * self._coefficients()
        rows, columns = self.folded_inverse.shape[-2:]
        aliases = spectrum.reshape(*spectrum.shape[:3], self.stride, rows, self.stride, columns)
        return torch.view_as_real(aliases.mean(dim=(3, 5))).flatten(-2)

    def _adjoint(self, measurement: Float[Tensor, "b k c p q2"]) -> Float[Tensor, "b k c h w"]:
        rows, columns = self.folded_inverse.shape[-2:]
        return self._back(self._complex(measurement)) * (rows * columns)

    def _pseudo_inverse(self, measurement: Float[Tensor, "b k c p q2"]) -> Float[Tensor, "b k c h w"]:
        factors, given = self._factors(), self._real(measurement)
        inverse = torch.where(factors.values > 0, 1 / factors.values, 0.0)[:, : factors.left.shape[2]]
        left, given = promoted(factors.left, given)
        right = factors.right[:, : inverse.shape[1]].to(left)
        found = torch.einsum("bmi,bkcm,bi,bij->bkcj", left, given, inverse.to(left), right)
        return found.unflatten(-1, self.image_shape[1:])

    def _factors(self) -> "_Factors":
        """Return the dense decompositions, from the real images of `_real` to images of one channel."""
        _, height, width = self.image_shape
        if height * width > _MOST_PIXELS:
            raise UserError(
                f"a strided blur is decomposed densely, for images of at most {_MOST_PIXELS} pixels; these have "
                f"{height}×{width}: use its approximate pseudo-inverse (approximate: true)"
            )
        spectra = self.spectrum.detach().double().cpu().numpy()
        each = [_decomposed(s.tobytes(), s.shape, self.stride, (height, width)) for s in spectra]
        precise = torch.float32 if self.spectrum.device.type == "mps" else torch.float64
        return _Factors(*(torch.stack(part).to(self.spectrum.device, precise) for part in zip(*each, strict=True)))


class ApproximateStridedBlur(StridedBlur):
    """A strided blur with the pseudo-inverse of InvFusion's released code, for images of any size.

    It is that of the whole canvas, cropped to the image afterwards, not the image's own. A A† A x differs from A x
    by a tenth to a quarter of its length.
    """

    @property
    def abilities(self) -> frozenset[Ability]:
        """See `LinearOperator.abilities`: singular values for small images only."""
        return super().abilities | {"pseudo-inverse"}

    def exact(self) -> StridedBlur:
        """See `LinearOperator.exact`: for small images."""
        return StridedBlur(*self) if "pseudo-inverse" in super().abilities else self

    def _pseudo_inverse(self, measurement: Float[Tensor, "b k c p q2"]) -> Float[Tensor, "b k c h w"]:
        return self._back(self._complex(measurement) * self.folded_inverse[:, None, None])


class _Factors(NamedTuple):
    """U [m r], all n singular values, and all of Vᵀ [n n]."""

    left: Float[Tensor, "*b m r"]
    values: Float[Tensor, "*b n"]
    right: Float[Tensor, "*b n n"]


@functools.lru_cache(maxsize=8)
def _decomposed(spectrum: bytes, shape: tuple[int, ...], stride: int, size: tuple[int, int]) -> _Factors:
    """Decompose the map from an image to every s-th pixel of its blurred canvas, orthonormally in coefficients."""
    factors = torch.view_as_complex(torch.from_numpy(np.frombuffer(spectrum, np.float64).reshape(shape).copy()))
    (height, width), pixels = size, size[0] * size[1]
    columns = []
    for start in range(0, pixels, _CHUNK):
        images = torch.eye(pixels, dtype=torch.float64)[start : start + _CHUNK].view(-1, height, width)
        blurred = torch.fft.ifft2(torch.fft.fft2(images, s=shape[:2]) * factors).real
        columns.append(blurred[:, ::stride, ::stride].flatten(1))
    dense = torch.cat(columns).mT
    dense = dense * len(dense) ** 0.5
    left, values, right = torch.linalg.svd(dense, full_matrices=len(dense) < pixels)
    every = torch.zeros(pixels, dtype=torch.float64)
    every[: len(values)] = torch.where(values > RELATIVE_CUT * values[0], values, 0.0)
    return _Factors(left[:, : len(values)], every, right)


def strided_blur(
    kernel: Float[Tensor, "*b m n"], stride: int, shape: tuple[int, int, int], approximate: bool = False
) -> StridedBlur:
    """Make the strided blur of images of a shape (c, h, w) with kernels whose centre is at (m // 2, n // 2).

    Frequencies with a transmission below 10⁻⁴ of the range do not pass at all; frequencies with as little power
    after aliasing are not inverted (as in the released code).

    Args:
        kernel: odd or even, at most as large as the canvas, twice the image.
        stride: a divisor of twice the height and the width.
        shape: of the images.
        approximate: whether the pseudo-inverse is that of the released code.

    Raises:
        UserError: the stride does not divide the canvas, or the kernel is larger.
    """
    canvas = (2 * shape[1], 2 * shape[2])
    rows, columns = kernel.shape[-2:]
    if canvas[0] % stride or canvas[1] % stride:
        raise UserError(f"a stride of {stride} does not divide twice the images' size {shape[1]}×{shape[2]}")
    if rows > canvas[0] or columns > canvas[1]:
        raise UserError(f"a kernel of {rows}×{columns} does not fit onto a canvas of {canvas[0]}×{canvas[1]}")
    padded = torch.zeros(*kernel.shape[:-2], 2 * rows, 2 * columns, dtype=torch.float64)
    padded[..., :rows, :columns] = kernel
    rolled = padded.roll((rows // 2, columns // 2), dims=(-2, -1))
    factors = torch.fft.fft2(rolled, s=canvas).conj()
    sizes = factors.abs()
    least = _LEAST_PASSED * (sizes.amax(dim=(-2, -1)) - sizes.amin(dim=(-2, -1)))
    factors = torch.where(sizes > least[..., None, None], factors, 0.0)
    split = (stride, canvas[0] // stride, stride, canvas[1] // stride)
    power = factors.abs().square().unflatten(-1, split[2:]).unflatten(-3, split[:2]).mean(dim=(-4, -2))
    inverse = torch.where(power > least[..., None, None], 1 / power, 0.0)
    kind = ApproximateStridedBlur if approximate else StridedBlur
    dtype = kernel.dtype
    return kind(torch.view_as_real(factors).to(dtype), inverse.to(dtype), blank((*kernel.shape[:-2], *shape)))
