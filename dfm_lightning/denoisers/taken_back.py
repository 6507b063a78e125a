"""Observations taken back to signals by the derivative of a forward model: conjugate gradients, a few steps."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.types import at_least_float32, map_tensors

# Share of the squared residual that the trial step, which measures the length of a gradient, should remove.
_TRIAL = 0.1


def taken_back(
    forward_model: ForwardModel,
    signal: Float[Tensor, "b *s"],
    params: Any,
    observation: Float[Tensor, "b v *o"],
    factor: Tensor | float = 1.0,
    steps: int = 1,
) -> list[Float[Tensor, "b *s"]]:
    """Return changes of a signal that explain observations, without a gradient of the result.

    With the residual r = O − α forward(S, φ) and the derivative J at S, these are iterates of conjugate gradients
    for the least of ‖r − J x‖² from x = 0 on (CGLS, Hestenes and Stiefel 1952), one after each step: first t Jᵀr
    with the best t; many steps approach the pseudo-inverse J⁺r.

    Args:
        forward_model: differentiable in the signal.
        signal: S, where J is taken.
        params: φ.
        observation: O.
        factor: α, shaped to multiply observations.
        steps: of conjugate gradients; each costs one observation and one derivative.

    Raises:
        UserError: the derivative vanishes everywhere, or observations do not depend on the signal.
    """
    if observation.shape[1] == 0:
        return [torch.zeros_like(signal) for _ in range(steps)]
    # (In Lightning's inference mode nothing could be differentiated, nor with what comes from it.)
    with torch.inference_mode(False), torch.enable_grad():
        signal, params, observation, factor = map_tensors(
            lambda t: t.detach().clone() if t.is_inference() else t.detach(), (signal, params, observation, factor)
        )
        leaf = signal.to(at_least_float32(signal)).requires_grad_()
        observed = forward_model(leaf, params)
        residual = (observation - factor * observed).detach().to(observed.dtype)
        if not observed.requires_grad:
            raise UserError(
                "observations are mapped back by the forward model's derivative, but its observations do not "
                "depend on the signal"
            )

        def adjoint(residual: Tensor) -> Tensor:
            return torch.autograd.grad((observed * residual).sum(), leaf, retain_graph=True)[0]

        slope = adjoint(residual)
        with torch.no_grad():
            steepness, error = _squared(slope), _squared(residual)
            if bool((steepness == 0).all()) and bool((error > 0).any()):
                _refuse_flat(leaf)
            # The length of trial changes, which measure J by a difference: not every model can be differentiated
            # twice.
            reach = torch.where(steepness > 0, _TRIAL * error / steepness.sqrt(), 0.0)
        found, change, direction = [], torch.zeros_like(slope), slope
        for number in range(steps):
            with torch.no_grad():
                trial = _finite(reach / _squared(direction).sqrt())
                ahead = (forward_model(leaf + _beside(trial, leaf) * direction, params) - observed).detach()
                step = _finite(steepness * trial.square() / _squared(ahead))
                change = change + _beside(step, change) * direction
                found.append(change.to(signal.dtype))
            if number < steps - 1:
                with torch.no_grad():
                    residual = residual - _beside(_finite(step / trial), ahead) * ahead
                slope, before = adjoint(residual), steepness
                with torch.no_grad():
                    steepness = _squared(slope)
                    direction = slope + _beside(_finite(steepness / before), slope) * direction
        return found


def _refuse_flat(signal: Tensor) -> None:
    """Raise `UserError` if the derivative vanishes at the default signal of zeros."""
    if not bool(signal.any()):
        raise UserError(
            "the forward model's derivative vanishes at a signal of zeros, so that observations cannot be "
            "mapped back there: set the denoiser's linearised_at to about the signals' standard deviation"
        )


def _finite(values: Tensor) -> Tensor:
    return torch.where(torch.isfinite(values), values, 0.0)


def _squared(tensor: Tensor) -> Float[Tensor, " b"]:
    return tensor.reshape(len(tensor), -1).square().sum(dim=1)


def _beside(values: Float[Tensor, " b"], tensor: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (tensor.ndim - 1))
