"""Operators that blur, on images with periodic borders, and that average blocks of pixels."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear.operator import (
    Decomposition,
    HoldsImageShape,
    blank,
    promoted,
)
from dfm_lightning.forward_models.linear.transforms import hartley
from dfm_lightning.types import at_least_float32

# Transmission of a frequency, relative to the largest, below which it counts as zero.
_LEAST_PASSED = 1e-5


class _Passed(NamedTuple):
    """The factor on each frequency, real and imaginary part; the images' shape, in an empty tensor."""

    spectrum: Float[Tensor, "*b h w 2"]
    blank: Float[Tensor, "*b c h w 0"]


class Blur(HoldsImageShape, _Passed):
    """y = k * x, with any kernel, for all channels alike; the image is periodic. Made by `blur`."""

    def norm(self) -> Float[Tensor, " b"]:
        """See `LinearOperator.norm`: the largest factor on a frequency."""
        return self._factors().abs().flatten(1).amax(dim=1)

    def decompose(self) -> Decomposition:
        """See `LinearOperator.decompose`: in the coefficients of Hartley's transform.

        A blur multiplies a pair of opposite frequencies by a number and turns it: V is the transform, U the
        transform turned.
        """
        shape = self.image_shape
        factors = self._factors()
        sizes = factors.abs()
        turned = torch.where(sizes > 0, factors / sizes.clamp(min=torch.finfo(sizes.dtype).tiny), 0.0).conj()
        values = sizes[:, None].expand(-1, shape[0], -1, -1).flatten(1)
        return Decomposition(
            values,
            lambda x: hartley(x.to(at_least_float32(x)), dims=2).flatten(1),
            lambda v: hartley(v.view(-1, *shape), dims=2),
            lambda y: hartley(self._filtered(y[:, None], turned)[:, 0], dims=2).flatten(1),
        )

    def _factors(self) -> Tensor:
        return torch.view_as_complex(self.spectrum.to(at_least_float32(self.spectrum)).contiguous())

    def _filtered(self, image: Float[Tensor, "b k c h w"], factors: Tensor) -> Float[Tensor, "b k c h w"]:
        return torch.fft.ifft2(torch.fft.fft2(image.to(at_least_float32(image))) * factors[:, None, None]).real

    def _apply(self, image: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k c h w"]:
        return self._filtered(image, self._factors())

    def _adjoint(self, measurement: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k c h w"]:
        return self._filtered(measurement, self._factors().conj())

    def _pseudo_inverse(self, measurement: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k c h w"]:
        factors = self._factors()
        return self._filtered(measurement, torch.where(factors.abs() > 0, 1 / factors, 0.0))


def blur(kernel: Float[Tensor, "*b m n"], shape: tuple[int, int, int]) -> Blur:
    """Make the blur of images of a shape (c, h, w) with kernels whose centre is at (m // 2, n // 2).

    Frequencies of which less than 10⁻⁵ of the largest would pass do not pass at all.

    Raises:
        UserError: a kernel is larger than the images.
    """
    (rows, columns), (height, width) = kernel.shape[-2:], shape[1:]
    if rows > height or columns > width:
        raise UserError(f"a kernel of {rows}×{columns} does not fit into images of {height}×{width} pixels")
    padded = torch.nn.functional.pad(kernel, (0, width - columns, 0, height - rows))
    factors = torch.fft.fft2(padded.double().roll((-(rows // 2), -(columns // 2)), dims=(-2, -1)))
    sizes = factors.abs()
    factors = torch.where(sizes > _LEAST_PASSED * sizes.amax(dim=(-2, -1), keepdim=True), factors, 0.0)
    return Blur(torch.view_as_real(factors).to(kernel.dtype), blank((*kernel.shape[:-2], *shape)))


def gaussian_kernel(deviation: float, size: int) -> Float[Tensor, "size size"]:
    """Return a Gaussian kernel of a standard deviation in pixels, with a sum of 1."""
    place = torch.arange(size, dtype=torch.float64) - size // 2
    profile = (-(place**2) / (2 * deviation**2)).exp()
    kernel = profile[:, None] * profile
    return (kernel / kernel.sum()).float()


class _Blocks(NamedTuple):
    """Weights of the pixels of a block; and the images' shape, in an empty tensor."""

    weights: Float[Tensor, "*b s s"]
    blank: Float[Tensor, "*b c h w 0"]


class Downsampling(HoldsImageShape, _Blocks):
    """Replace each block of s × s pixels by its weighted sum. Made by `downsampling`."""

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """See `LinearOperator.measurement_shape`: an image of h/s × w/s pixels."""
        (channels, height, width), side = self.image_shape, self.weights.shape[-1]
        return (channels, height // side, width // side)

    def norm(self) -> Float[Tensor, " b"]:
        """See `LinearOperator.norm`: the length of the weights."""
        return self.weights.flatten(1).norm(dim=1)

    def decompose(self) -> Decomposition:
        """See `LinearOperator.decompose`: in each block, the weights and what is orthogonal to them."""
        side, weights = self.weights.shape[-1], self.weights.flatten(1)
        # The reflection that swaps the first axis and the weights' direction.
        seen = weights / self.norm()[:, None]
        axis = torch.zeros_like(seen)
        axis[:, 0] = 1
        normal = axis - seen
        scale = 2 / normal.square().sum(dim=1, keepdim=True).clamp(min=torch.finfo(seen.dtype).tiny)
        basis = torch.eye(side**2).to(seen) - (scale * normal)[:, :, None] * normal[:, None, :]
        channels, height, width = self.measurement_shape
        values = torch.zeros(self.batch, channels, height, width, side**2).to(seen)
        values[..., 0] = self.norm().view(-1, 1, 1, 1)

        def to_right(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
            reflection, blocks = promoted(basis, self._blocks(image[:, None])[:, 0])
            return torch.einsum("bchwi,bij->bchwj", blocks, reflection).flatten(1)

        def from_right(coordinates: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
            reflection, given = promoted(basis, coordinates)
            blocks = torch.einsum("bchwj,bij->bchwi", given.view(values.shape), reflection)
            return self._image(blocks[:, None])[:, 0]

        def to_left(measurement: Float[Tensor, "b c p q"]) -> Float[Tensor, "b n"]:
            return torch.nn.functional.pad(measurement[..., None], (0, side**2 - 1)).flatten(1)

        return Decomposition(values.flatten(1), to_right, from_right, to_left)

    def _blocks(self, image: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k c p q s2"]:
        side = self.weights.shape[-1]
        (channels, height, width), copies = self.measurement_shape, image.shape[1]
        split = image.reshape(len(image), copies, channels, height, side, width, side)
        return split.permute(0, 1, 2, 3, 5, 4, 6).flatten(5)

    def _image(self, blocks: Float[Tensor, "b k c p q s2"]) -> Float[Tensor, "b k c h w"]:
        side = self.weights.shape[-1]
        split = blocks.unflatten(-1, (side, side)).permute(0, 1, 2, 3, 5, 4, 6)
        return split.reshape(*blocks.shape[:2], *self.image_shape)

    def _apply(self, image: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k c p q"]:
        weights, given = promoted(self.weights.flatten(1), image)
        return torch.einsum("bkchwi,bi->bkchw", self._blocks(given), weights)

    def _adjoint(self, measurement: Float[Tensor, "b k c p q"]) -> Float[Tensor, "b k c h w"]:
        weights, given = promoted(self.weights.flatten(1), measurement)
        return self._image(torch.einsum("bkchw,bi->bkchwi", given, weights))

    def _pseudo_inverse(self, measurement: Float[Tensor, "b k c p q"]) -> Float[Tensor, "b k c h w"]:
        squared = self.norm().square().view(-1, 1, 1, 1, 1)
        return self._adjoint(measurement / squared)


def downsampling(
    factor: int, shape: tuple[int, ...], weights: Float[Tensor, "*b s s"] | None = None
) -> Downsampling:
    """Make the operator that shrinks images of a shape [*b c h w] by a factor, by weights or by the mean.

    Raises:
        UserError: the factor does not divide the images' height and width.
    """
    *leading, _, height, width = shape
    if height % factor or width % factor:
        raise UserError(f"images of {height}×{width} pixels cannot be made smaller by a factor of {factor}")
    mean = torch.full((*leading, factor, factor), 1 / factor**2) if weights is None else weights
    return Downsampling(mean, blank(shape))
