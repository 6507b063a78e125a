"""The forward model of linear problems: signals are images, and their parameters are operators."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear.operator import Ability, LinearOperator
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.types import Views, map_tensors


class Sensing(NamedTuple):
    """The way images were measured: the parameters φ of a linear problem.

    `operator` is a `LinearOperator` whose tensors begin with `*b`; `noise` is σ_y, the standard deviation of the
    noise in the measurements, in the measurements' own units; infinite if nothing was measured. `label` is the
    class of the image, for models that know classes; −1 for none.
    """

    operator: LinearOperator
    noise: Float[Tensor, " *b"]
    label: Int[Tensor, " *b"]


def sensing(operator: LinearOperator, leading: tuple[int, ...], noise: float = 0.0, label: int = -1) -> Sensing:
    """Build a `Sensing` with leading dimensions `*b`, with the same noise and class for all."""
    return Sensing(operator, torch.full(leading, noise), torch.full(leading, label))


class _Projected(NamedTuple):
    """The operator whose row space is meant."""

    operator: LinearOperator


class Projection(LinearOperator, _Projected):
    """y = A† A x: the part of an image that an operator sees, as an image. Symmetric; its own pseudo-inverse.

    It states what a measurement reveals of an image in a form that does not depend on the operator's kind.
    """

    @property
    def batch(self) -> int:
        """See `LinearOperator.batch`."""
        return self.operator.batch

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """See `LinearOperator.image_shape`."""
        return self.operator.image_shape

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """See `LinearOperator.measurement_shape`: an image's."""
        return self.image_shape

    @property
    def abilities(self) -> frozenset[Ability]:
        """See `LinearOperator.abilities`."""
        return frozenset({"adjoint", "pseudo-inverse"})

    def _apply(self, image: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k c h w"]:
        return self.operator.pseudo_inverse(self.operator.apply(image))

    def _adjoint(self, measurement: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k c h w"]:
        return self._apply(measurement)

    def _pseudo_inverse(self, measurement: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k c h w"]:
        return self._apply(measurement)


def one_a_view(operator: LinearOperator) -> LinearOperator:
    """Merge the leading dimensions `b v` of an operator's tensors."""
    return map_tensors(lambda tensor: tensor.flatten(0, 1), operator)


class LinearObservation(ForwardModel[Tensor, Sensing]):
    """O = A S: images [b c h w] measured by linear operators; φ is a `Sensing`, which also states the noise of O.

    A target is an image, or the part of one that an operator sees (`Projection`).
    """

    def forward(self, signal: Float[Tensor, "b c h w"], params: Sensing) -> Float[Tensor, "b v p q r"]:
        """See `ForwardModel`."""
        views = params.noise.shape[1]
        operator = one_a_view(params.operator)
        return operator.apply(signal.repeat_interleave(views, dim=0)).unflatten(0, (len(signal), views))

    def target_size(self, context: Views) -> tuple[int, ...]:
        """See `ForwardModel.target_size`: that of the images behind the context."""
        return tuple(one_a_view(context.params.operator).image_shape)

    def operator_norm(self, params: Sensing) -> Float[Tensor, " b"]:
        """See `ForwardModel.operator_norm`: of one view its operator's, of several at most this."""
        squared = one_a_view(params.operator).norm().square()
        return squared.to(params.noise).view(params.noise.shape).sum(dim=1).sqrt()

    def noise_deviation(self, params: Sensing) -> Float[Tensor, "b v p q r"]:
        """See `ForwardModel.noise_deviation`: σ_y where a measurement depends on the image."""
        places = one_a_view(params.operator).measured_places().unflatten(0, params.noise.shape)
        return torch.where(places.to(params.noise) > 0, params.noise[..., None, None, None], 0.0)


def measure(
    operator: LinearOperator, image: Float[Tensor, "b c h w"], noise: float, generator: torch.Generator | None
) -> Float[Tensor, "b p q r"]:
    """Measure images, y = A x + σ_y z, with noise from a generator on the CPU.

    Padding of a measurement, such as zeros for unseen pixels, has no noise.

    Raises:
        UserError: σ_y is negative or not finite.
    """
    check_noise(noise)
    clean = operator.apply(image)
    if noise == 0:
        return clean
    drawn = torch.randn(clean.shape, generator=generator, dtype=torch.float32)
    return clean + noise * drawn.to(clean) * operator.measured_places().to(clean)


def check_noise(noise: float) -> None:
    """Raise `UserError` if σ_y is not a standard deviation."""
    if not 0 <= noise < float("inf"):
        raise UserError(f"the measurements' noise σ_y must be 0 or more and finite, got {noise:g}")


def check_measurement(operator: LinearOperator, measurement: Tensor) -> None:
    """Raise `UserError` if a measurement does not belong to this operator, or is not finite."""
    _check_size(operator, measurement)
    _check_finite(measurement)


def check_context(context: Views) -> None:
    """Raise `UserError` as `check_measurement` and `check_noise` do, for the context of a linear problem.

    What was not measured (σ_y infinite) may hold anything.
    """
    noise, measurement = context.params.noise.flatten(), context.observation.flatten(0, 1)
    _check_size(one_a_view(context.params.operator), measurement)
    made = noise != float("inf")
    for deviation in noise[made].tolist():
        check_noise(deviation)
    _check_finite(measurement[made])


def _check_size(operator: LinearOperator, measurement: Tensor) -> None:
    expected = (operator.batch, *operator.measurement_shape)
    if measurement.numel() == 0:
        raise UserError(f"the measurement is empty: its shape is {tuple(measurement.shape)}, expected {expected}")
    if tuple(measurement.shape) != expected:
        raise UserError(
            f"the measurement has shape {tuple(measurement.shape)}, but {type(operator).__name__} gives {expected}"
        )


def _check_finite(measurement: Tensor) -> None:
    if not bool(torch.isfinite(measurement).all()):
        raise UserError("the measurement holds numbers that are not finite (NaN or infinity)")
