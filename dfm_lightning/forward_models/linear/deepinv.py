"""deepinv's linear physics as operators (`pip install dfm-lightning[deepinv]`)."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear.operator import ALL_ABILITIES, Ability, Decomposition, LinearOperator


class DeepinvOperator(LinearOperator):
    """A `deepinv.physics.LinearPhysics` as an operator. The noise model of the physics is not used.

    Measurements whose images do not have three dimensions are laid out as [n 1 1]. Singular values are available
    if the physics is decomposable in real numbers, one for each number of an image.

    Args:
        physics: implements A, A_adjoint and A_dagger of batches.
        shape: channels, height and width of the images.
        batch: number of images; the physics' own parameters must match it.

    Raises:
        UserError: it is not a linear physics.
    """

    def __init__(self, physics: Any, shape: tuple[int, int, int], batch: int = 1) -> None:
        missing = [name for name in ("A", "A_adjoint", "A_dagger") if not callable(getattr(physics, name, None))]
        if missing:
            raise UserError(f"expected a LinearPhysics of deepinv; {type(physics).__name__} has no {missing[0]}")
        self.physics = physics
        self._shape = shape
        self._batch = batch
        with torch.no_grad():
            self._raw_shape = tuple(physics.A(torch.zeros(batch, *shape)).shape[1:])
        self._decomposable = self._has_singular_values()

    @property
    def abilities(self) -> frozenset[Ability]:
        """See `LinearOperator.abilities`."""
        return ALL_ABILITIES if self._decomposable else ALL_ABILITIES - {"singular values"}

    @property
    def batch(self) -> int:
        """See `LinearOperator.batch`."""
        return self._batch

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """See `LinearOperator.image_shape`."""
        return self._shape

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """See `LinearOperator.measurement_shape`."""
        raw = self._raw_shape
        return (raw[0], raw[1], raw[2]) if len(raw) == 3 else (math.prod(raw), 1, 1)

    def decompose(self) -> Decomposition:
        """See `LinearOperator.decompose`.

        Raises:
            UserError: the physics is not decomposable in real numbers.
        """
        if not self._decomposable:
            return super().decompose()
        physics, (batch, shape) = self.physics, (self._batch, self._shape)
        coordinates = physics.V_adjoint(torch.zeros(batch, *shape))
        signed = (torch.as_tensor(physics.mask) * torch.ones_like(coordinates)).flatten(1)

        def to_left(measurement: Float[Tensor, "b p q r"]) -> Float[Tensor, "b n"]:
            found = physics.U_adjoint(measurement.reshape(batch, *self._raw_shape))
            return found.reshape(batch, -1) * signed.sign()

        return Decomposition(
            signed.abs(),
            lambda x: physics.V_adjoint(x).reshape(batch, -1),
            lambda v: physics.V(v.reshape(coordinates.shape)),
            to_left,
        )

    def _has_singular_values(self) -> bool:
        if not all(hasattr(self.physics, name) for name in ("U_adjoint", "V_adjoint", "V", "mask")):
            return False
        zeros = torch.zeros(self._batch, *self._shape)
        right = self.physics.V_adjoint(zeros)
        left = self.physics.U_adjoint(self.physics.A(zeros))
        return not right.is_complex() and right.numel() == zeros.numel() == left.numel()

    def _apply(self, image: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k p q r"]:
        found = [self.physics.A(copy).reshape(self._batch, *self.measurement_shape) for copy in image.unbind(1)]
        return torch.stack(found, dim=1)

    def _adjoint(self, measurement: Float[Tensor, "b k p q r"]) -> Float[Tensor, "b k c h w"]:
        return torch.stack([self.physics.A_adjoint(copy) for copy in self._copies(measurement)], dim=1)

    def _pseudo_inverse(self, measurement: Float[Tensor, "b k p q r"]) -> Float[Tensor, "b k c h w"]:
        return torch.stack([self.physics.A_dagger(copy) for copy in self._copies(measurement)], dim=1)

    def _copies(self, measurement: Float[Tensor, "b k p q r"]) -> list[Tensor]:
        return [copy.reshape(self._batch, *self._raw_shape) for copy in measurement.unbind(1)]
