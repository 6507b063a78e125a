"""Operators that mix all of an image: matrices, and compressed sensing by a fast transform."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfm_lightning.forward_models.linear.operator import Decomposition, LinearOperator, promoted
from dfm_lightning.forward_models.linear.transforms import hartley


class _Rows(NamedTuple):
    """The rows of a matrix and the columns of its pseudo-inverse, each laid out as an image."""

    rows: Float[Tensor, "*b m c h w"]
    inverse: Float[Tensor, "*b m c h w"]


class Matrix(LinearOperator, _Rows):
    """y = A x, m numbers [m 1 1], for any matrix.

    Rows of zeros count as absent, so a batch may hold matrices of different heights. Made by `matrix_operator`.
    """

    @property
    def batch(self) -> int:
        """See `LinearOperator.batch`."""
        return len(self.rows)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """See `LinearOperator.image_shape`."""
        channels, height, width = self.rows.shape[-3:]
        return (channels, height, width)

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """See `LinearOperator.measurement_shape`."""
        return (self.rows.shape[-4], 1, 1)

    def norm(self) -> Float[Tensor, " b"]:
        """See `LinearOperator.norm`: by the singular values."""
        return torch.linalg.matrix_norm(self.rows.flatten(2).double(), ord=2).to(self.rows.dtype)

    def measured_places(self) -> Float[Tensor, "b m 1 1"]:
        """See `LinearOperator.measured_places`: the rows that are not of zeros."""
        return (self.rows.flatten(2) != 0).any(dim=2).to(self.rows)[..., None, None]

    def decompose(self) -> Decomposition:
        """See `LinearOperator.decompose`."""
        shape, rows = self.image_shape, self.rows.flatten(2)
        left, values, right = torch.linalg.svd(rows.double(), full_matrices=True)
        kept = values > values[:, :1] * relative_cut(rows)
        padded = rows.new_zeros(len(rows), rows.shape[2]).double()
        padded[:, : values.shape[1]] = torch.where(kept, values, 0.0)
        padded, left, right = (part.to(rows.dtype) for part in (padded, left[:, :, : values.shape[1]], right))

        def to_right(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
            basis, flat = promoted(right, image.flatten(1))
            return torch.einsum("bij,bj->bi", basis, flat)

        def from_right(coordinates: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
            basis, given = promoted(right, coordinates)
            return torch.einsum("bij,bi->bj", basis, given).view(-1, *shape)

        def to_left(measurement: Float[Tensor, "b m 1 1"]) -> Float[Tensor, "b n"]:
            basis, given = promoted(left, measurement.flatten(1))
            found = torch.einsum("bmi,bm->bi", basis, given) * kept
            return torch.nn.functional.pad(found, (0, rows.shape[2] - found.shape[1]))

        return Decomposition(padded, to_right, from_right, to_left)

    def _apply(self, image: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k m 1 1"]:
        rows, given = promoted(self.rows, image)
        return torch.einsum("bmchw,bkchw->bkm", rows, given)[..., None, None]

    def _adjoint(self, measurement: Float[Tensor, "b k m 1 1"]) -> Float[Tensor, "b k c h w"]:
        rows, given = promoted(self.rows, measurement[..., 0, 0])
        return torch.einsum("bmchw,bkm->bkchw", rows, given)

    def _pseudo_inverse(self, measurement: Float[Tensor, "b k m 1 1"]) -> Float[Tensor, "b k c h w"]:
        inverse, given = promoted(self.inverse, measurement[..., 0, 0])
        return torch.einsum("bmchw,bkm->bkchw", inverse, given)


def relative_cut(matrix: Float[Tensor, "*b m n"]) -> float:
    """Return the share of the largest singular value below which others are rounding errors."""
    return max(matrix.shape[-2:]) * torch.finfo(matrix.dtype).eps


def matrix_operator(rows: Float[Tensor, "*b m c h w"]) -> Matrix:
    """Make the operator of a matrix whose rows are laid out as images; pseudo-invert it in float64."""
    matrix = rows.flatten(-3)
    # By the small triangle of Aᵀ = Q R: A† = Q (Rᵀ)†.
    basis, triangle = torch.linalg.qr(matrix.double().mT)
    inverse = (basis @ torch.linalg.pinv(triangle.mT, rtol=relative_cut(matrix))).mT
    return Matrix(rows, inverse.reshape(rows.shape).to(rows.dtype))


class _Scrambled(NamedTuple):
    """Signs ±1 of the pixels, and the indices of the transform's m measured coefficients."""

    signs: Float[Tensor, "*b c h w"]
    kept: Int[Tensor, "*b m"]


class CompressedSensing(LinearOperator, _Scrambled):
    """y = R H D x, m numbers [m 1 1]: signs D, an orthonormal transform H, some of its coefficients R.

    H is the Hartley transform (as the Fourier transform, but real). The rows are orthonormal: A† = Aᵀ.
    """

    @property
    def batch(self) -> int:
        """See `LinearOperator.batch`."""
        return len(self.signs)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """See `LinearOperator.image_shape`."""
        channels, height, width = self.signs.shape[-3:]
        return (channels, height, width)

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """See `LinearOperator.measurement_shape`."""
        return (self.kept.shape[-1], 1, 1)

    def norm(self) -> Float[Tensor, " b"]:
        """See `LinearOperator.norm`: 1."""
        return self.signs.new_ones(self.batch)

    def decompose(self) -> Decomposition:
        """See `LinearOperator.decompose`: in the transform's coefficients."""
        values = torch.zeros_like(self.signs.flatten(1)).scatter(1, self.kept, 1.0)
        return Decomposition(
            values,
            lambda x: self._transform(x[:, None])[:, 0],
            lambda v: self._back(v[:, None])[:, 0],
            lambda y: self._spread(y.flatten(1)[:, None])[:, 0],
        )

    def _transform(self, image: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k n"]:
        signs, given = promoted(self.signs, image)
        return hartley((signs[:, None] * given).flatten(2), dims=1)

    def _back(self, coefficients: Float[Tensor, "b k n"]) -> Float[Tensor, "b k c h w"]:
        signs, given = promoted(self.signs, coefficients)
        return hartley(given, dims=1).view(*given.shape[:2], *self.image_shape) * signs[:, None]

    def _spread(self, measured: Float[Tensor, "b k m"]) -> Float[Tensor, "b k n"]:
        places = self.kept[:, None].expand(measured.shape)
        whole = measured.new_zeros(*measured.shape[:2], self.signs[0].numel())
        return whole.scatter(2, places, measured)

    def _apply(self, image: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k m 1 1"]:
        coefficients = self._transform(image)
        places = self.kept[:, None].expand(-1, coefficients.shape[1], -1)
        return coefficients.gather(2, places)[..., None, None]

    def _adjoint(self, measurement: Float[Tensor, "b k m 1 1"]) -> Float[Tensor, "b k c h w"]:
        return self._back(self._spread(measurement[..., 0, 0]))

    _pseudo_inverse = _adjoint
