"""Operators that show part of an image: masks, and the operator that shows nothing."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.forward_models.linear.operator import (
    Decomposition,
    HoldsImageShape,
    blank,
    promoted,
)


class _Seen(NamedTuple):
    """The visible pixels, 1 or 0, all channels alike; and the images' shape, in an empty tensor."""

    mask: Float[Tensor, "*b 1 h w"]
    blank: Float[Tensor, "*b c h w 0"]


class Mask(HoldsImageShape, _Seen):
    """y = m · x: an image with all but the ones of a mask set to zero. Its own pseudo-inverse.

    In-painting and out-painting; with a mask of ones, denoising and the image itself. Made by `mask_operator`.
    """

    def norm(self) -> Float[Tensor, " b"]:
        """See `LinearOperator.norm`: 1, or 0 where nothing is seen."""
        return self.mask.flatten(1).amax(dim=1)

    def measured_places(self) -> Float[Tensor, "b c h w"]:
        """See `LinearOperator.measured_places`: the visible ones."""
        return self.mask.expand(-1, self.image_shape[0], -1, -1)

    def decompose(self) -> Decomposition:
        """See `LinearOperator.decompose`: in pixels."""
        shape = self.image_shape
        values = self.mask.expand(-1, shape[0], -1, -1).flatten(1)
        return Decomposition(
            values, lambda x: x.flatten(1), lambda v: v.view(-1, *shape), lambda y: y.flatten(1) * values
        )

    def _apply(self, image: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k c h w"]:
        return image * self.mask[:, None].to(image.dtype)

    def _adjoint(self, measurement: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k c h w"]:
        return self._apply(measurement)

    def _pseudo_inverse(self, measurement: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k c h w"]:
        return self._apply(measurement)


def mask_operator(mask: Float[Tensor, "*b 1 h w"], channels: int = 3) -> Mask:
    """Make the operator of a mask, 1 where the image is seen and 0 elsewhere."""
    return Mask(mask, blank((*mask.shape[:-3], channels, *mask.shape[-2:])))


def whole_image(shape: tuple[int, ...]) -> Mask:
    """Make the operator that shows all of the images of a shape [*b c h w]."""
    *leading, channels, height, width = shape
    return mask_operator(torch.ones(*leading, 1, height, width), channels)


class _Unseen(NamedTuple):
    """The images' shape, in an empty tensor."""

    blank: Float[Tensor, "*b c h w 0"]


class Zero(HoldsImageShape, _Unseen):
    """y = 0, one for each channel, for every image: a model given it is unconditional.

    Made by `zero_operator`.
    """

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """See `LinearOperator.measurement_shape`."""
        return (self.image_shape[0], 1, 1)

    def measured_places(self) -> Float[Tensor, "b c 1 1"]:
        """See `LinearOperator.measured_places`: none."""
        return self.blank.new_zeros(self.batch, *self.measurement_shape)

    def norm(self) -> Float[Tensor, " b"]:
        """See `LinearOperator.norm`: 0."""
        return self.blank.new_zeros(self.batch)

    def decompose(self) -> Decomposition:
        """See `LinearOperator.decompose`: nothing is seen."""
        shape = self.image_shape
        values = self.blank.new_zeros(self.batch, shape[0] * shape[1] * shape[2])
        return Decomposition(
            values,
            lambda x: x.flatten(1),
            lambda v: v.view(-1, *shape),
            lambda y: torch.zeros_like(promoted(y, values)[1]),
        )

    def _apply(self, image: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k c 1 1"]:
        # (Not new zeros: a gradient of zeros is still a gradient.)
        return image[..., :1, :1] * 0

    def _adjoint(self, measurement: Float[Tensor, "b k c 1 1"]) -> Float[Tensor, "b k c h w"]:
        return (measurement * 0).expand(-1, -1, -1, *self.image_shape[1:])

    _pseudo_inverse = _adjoint


def zero_operator(shape: tuple[int, ...]) -> Zero:
    """Make the operator that shows nothing of the images of a shape [*b c h w]."""
    return Zero(blank(shape))
