"""deepinv's linear physics as operators (`pip install dfm-lightning[deepinv]`)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

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
)


class _Wrapped(NamedTuple):
    """The physics, the number of images that its parameters are for; a measurement's shape, the images' shape."""

    physics: Any
    own_batch: int
    raw_shape: tuple[int, ...]
    blank: Float[Tensor, "*b c h w 0"]


class DeepinvOperator(HoldsImageShape, _Wrapped):
    """A `deepinv.physics.LinearPhysics` as an operator. The noise model of the physics is not used.

    Measurements whose images do not have three dimensions are laid out as [n 1 1]. Singular values are available
    if the physics is decomposable in real numbers, one for each number of an image.

    Made by `deepinv_operator` for a batch. Repeated (several draws), each image keeps its physics. Of a physics
    whose parameters differ between images, no part of the batch can be taken, since deepinv cannot divide it.
    """

    @property
    def abilities(self) -> frozenset[Ability]:
        """See `LinearOperator.abilities`."""
        return ALL_ABILITIES if self._decomposable else ALL_ABILITIES - {"singular values"}

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """See `LinearOperator.measurement_shape`."""
        raw = self.raw_shape
        return (raw[0], raw[1], raw[2]) if len(raw) == 3 else (math.prod(raw), 1, 1)

    def decompose(self) -> Decomposition:
        """See `LinearOperator.decompose`.

        Raises:
            UserError: the physics is not decomposable in real numbers.
        """
        if not self._decomposable:
            return super().decompose()
        coordinates = self._grouped(self.physics.V_adjoint, torch.zeros(self.batch, *self.image_shape))
        signed = (torch.as_tensor(self.physics.mask) * torch.ones_like(coordinates[: self.own_batch])).flatten(1)
        signed = signed.repeat_interleave(self.batch // self.own_batch, dim=0)

        def to_left(measurement: Float[Tensor, "b p q r"]) -> Float[Tensor, "b n"]:
            found = self._grouped(self.physics.U_adjoint, measurement.reshape(-1, *self.raw_shape))
            return found.reshape(self.batch, -1) * signed.sign()

        return Decomposition(
            signed.abs(),
            lambda x: self._grouped(self.physics.V_adjoint, x).reshape(self.batch, -1),
            lambda v: self._grouped(self.physics.V, v.reshape(coordinates.shape)),
            to_left,
        )

    @property
    def _decomposable(self) -> bool:
        if not all(hasattr(self.physics, name) for name in ("U_adjoint", "V_adjoint", "V", "mask")):
            return False
        zeros = torch.zeros(self.own_batch, *self.image_shape)
        with torch.no_grad():
            right = self.physics.V_adjoint(zeros)
            left = self.physics.U_adjoint(self.physics.A(zeros))
        return not right.is_complex() and right.numel() == zeros.numel() == left.numel()

    def _apply(self, image: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k p q r"]:
        return self._on_stack(self.physics.A, image, self.image_shape, self.measurement_shape)

    def _adjoint(self, measurement: Float[Tensor, "b k p q r"]) -> Float[Tensor, "b k c h w"]:
        return self._on_stack(self.physics.A_adjoint, measurement, self.raw_shape, self.image_shape)

    def _pseudo_inverse(self, measurement: Float[Tensor, "b k p q r"]) -> Float[Tensor, "b k c h w"]:
        return self._on_stack(self.physics.A_dagger, measurement, self.raw_shape, self.image_shape)

    def _on_stack(
        self,
        function: Callable[[Tensor], Tensor],
        stack: Float[Tensor, "b k _p _q _r"],
        taken: tuple[int, ...],
        given: tuple[int, ...],
    ) -> Float[Tensor, "b k _s _t _u"]:
        found = [self._grouped(function, copy.reshape(-1, *taken)) for copy in stack.unbind(1)]
        return torch.stack([copy.reshape(-1, *given) for copy in found], dim=1)

    def _grouped(self, function: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
        """Map a batch: at once if the physics is the same for all, else in parts of the physics' own batch.

        Repetitions of an image follow each other.
        """
        if self.own_batch == 1:
            return function(given)
        if len(given) % self.own_batch:
            raise UserError(
                f"the parameters of {type(self.physics).__name__} are for {self.own_batch} images, and cannot be "
                f"divided for {len(given)}: use a physics with the same parameters for all images"
            )
        parts = given.unflatten(0, (self.own_batch, -1)).unbind(1)
        return torch.stack([function(part) for part in parts], dim=1).flatten(0, 1)


def deepinv_operator(physics: Any, shape: tuple[int, int, int], batch: int = 1) -> DeepinvOperator:
    """Make the operator of a deepinv physics.

    Args:
        physics: implements A, A_adjoint and A_dagger of batches.
        shape: channels, height and width of the images.
        batch: number of images; the physics' own parameters must match it, or be the same for all.

    Raises:
        UserError: it is not a linear physics, or does not take such images.
    """
    missing = [name for name in ("A", "A_adjoint", "A_dagger") if not callable(getattr(physics, name, None))]
    if missing:
        raise UserError(f"expected a LinearPhysics of deepinv; {type(physics).__name__} has no {missing[0]}")
    images = torch.zeros(batch, *shape)
    with torch.no_grad():
        try:
            raw = tuple(physics.A(images).shape[1:])
        except (RuntimeError, ValueError) as error:
            line = str(error).splitlines()[0]
            raise UserError(f"{type(physics).__name__} does not take images of shape {shape}: {line}") from error
        same = _takes(physics, torch.zeros(batch + 1, *shape))
    return DeepinvOperator(physics, 1 if same else batch, raw, blank((batch, *shape)))


def _takes(physics: Any, images: Tensor) -> bool:
    """Tell whether a physics takes another number of images: its parameters are then the same for all."""
    try:
        return len(physics.A(images)) == len(images)
    except (RuntimeError, ValueError):
        return False
