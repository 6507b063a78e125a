"""Context guidance: in each evaluation, a few gradient steps of the predicted signal towards the context."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.ranges import Number, check_at_least
from dfm_lightning.record import Recorded
from dfm_lightning.types import Views, at_least_float32, map_tensors, named_tensors, repeat_batch

# Share of the squared residual that a trial step, which measures curvature along the gradient, should remove.
_TRIAL = 0.1
# Greatest length of that trial step, relative to the signal's own length.
_LONGEST_TRIAL = 0.1
# Factor on the length of steps, once one has increased the residual.
_SHORTENED = 0.25


class ContextGuidance(Recorded):
    """Moves each predicted signal down the gradient of ½‖forward(S, φ_context) − O_context‖².

    It needs no retraining, and works with every sampler, every guidance, and every signal that is a tree of
    tensors. If the forward model knows its `operator_norm` L, a step has the length `rate`/L², which never
    increases the residual of a linear model. Otherwise the length is `rate` times that of the step to the minimum
    along the gradient, as if the forward model were linear. A step that increases the residual of an element is
    undone for that element, and its next step is shorter.

    Noise in the context is not fitted (Morozov's discrepancy principle). Steps stop at the squared residual that
    noise may cause: the mean of its squared length plus two standard deviations, Σσ² + 2 √(2 Σσ⁴). With a smaller
    value some signals would have nearly no freedom left.

    Args:
        steps: gradient steps in each evaluation of the denoiser; each takes a forward and a backward pass of the
            forward model.
        rate: factor on the length of steps, above 0 and below 2.
        noise: standard deviation of the noise in the context's observations, in their units; what the forward
            model declares (`noise_deviation`) if not given.
    """

    def __init__(self, steps: int = 3, rate: Number = 1.0, noise: Number | None = None) -> None:
        check_at_least(1, steps=steps)
        check_at_least(0, noise=noise)
        if not 0 < rate < 2:
            raise ValueError(f"rate must be above 0 and below 2, got {rate:g}")
        self.steps = steps
        self.rate = rate
        self.noise = noise

    def towards(self, forward_model: ForwardModel, context: Views, samples: int) -> "GuideToContext":
        """Prepare for signals of the scenes of a batch, this many of each side by side."""
        norm = forward_model.operator_norm(context.params)
        goal = _greatest_noise(self._deviation(forward_model, context).expand(context.observation.shape))
        repeated, goal, norm = repeat_batch((context, goal, norm), samples)
        return GuideToContext(self, forward_model, repeated, goal, norm)

    def _deviation(self, forward_model: ForwardModel, context: Views) -> Tensor:
        """Return the standard deviation of the noise, in float32 at least; infinite if nothing was measured."""
        like = context.observation.new_zeros((), dtype=at_least_float32(context.observation))
        declared = forward_model.noise_deviation(context.params)
        known = like if declared is None else declared.to(like)
        return known if self.noise is None else torch.where(torch.isinf(known), known, like + self.noise)


class GuideToContext:
    """Context guidance for the draws of one batch: the function that moves predicted signals.

    Args:
        settings: steps and rate.
        forward_model: observes the signals.
        context: that of each signal.
        goal: squared residual at which steps of each stop.
        norm: the forward model's `operator_norm` for each, if it has one.
    """

    def __init__(
        self,
        settings: ContextGuidance,
        forward_model: ForwardModel,
        context: Views,
        goal: Float[Tensor, " b"],
        norm: Float[Tensor, " b"] | None,
    ) -> None:
        self.settings = settings
        self.forward_model = forward_model
        self.context = context
        self.goal = goal
        self.squared_norm = None if norm is None else norm.to(goal).square()

    def __call__(self, signal: Any) -> Any:
        """Move each signal of a batch towards its context.

        Raises:
            UserError: the signals are not a tree of tensors that their observations depend on, or the context is
                not an observation of the forward model.
        """
        scenes = len(self.goal)
        given = _float_tensors(signal)
        if not given or any(tensor.ndim == 0 or len(tensor) != scenes for tensor in given):
            raise UserError(
                f"context_guidance moves signals that are trees of tensors, one a scene; {type(signal).__name__} "
                "is none: leave context_guidance out"
            )
        # In float32 at least: steps are small.
        parts = [tensor.detach().to(at_least_float32(tensor)) for tensor in given]
        moved = self._descend(parts, lambda parts: _with_float_tensors(signal, parts))
        cast = [part.to(before.dtype) for part, before in zip(moved, given, strict=True)]
        return _with_float_tensors(signal, cast)

    def _descend(self, parts: list[Tensor], build: Callable[[list[Tensor]], Any]) -> list[Tensor]:
        error, residual, slope = self._differentiated(parts, build)
        rate = torch.full_like(error, float(self.settings.rate))
        done = ~(error > self.goal)
        for number in range(self.settings.steps):
            if bool(done.all()):
                break
            step = torch.where(done, 0.0, rate * self._natural_step(parts, build, slope, residual, error))
            trial = _moved(parts, slope, step)
            if number + 1 < self.settings.steps:
                found = self._differentiated(trial, build)
            else:
                after = self._residual(build(trial))
                found = (squared_length(after), after, slope)
            worse = ~(found[0] < error)  # or no number at all
            parts = _moved(parts, slope, torch.where(worse, 0.0, step * self._share_of_step(residual, found[1])))
            done = done | (~worse & (found[0] <= self.goal))
            rate = torch.where(worse, rate * _SHORTENED, rate)
            slope = [torch.where(_beside(worse, a), a, b) for a, b in zip(slope, found[2], strict=True)]
            residual = torch.where(_beside(worse, residual), residual, found[1])
            error = torch.where(worse, error, found[0])
        return parts

    def _natural_step(
        self,
        parts: list[Tensor],
        build: Callable[[list[Tensor]], Any],
        slope: list[Tensor],
        residual: Float[Tensor, "b *o"],
        error: Float[Tensor, " b"],
    ) -> Float[Tensor, " b"]:
        """Return the length of a step at rate 1."""
        steepness = torch.stack([squared_length(down) for down in slope]).sum(dim=0)
        if self.squared_norm is not None:
            return torch.where(self.squared_norm > 0, 1 / self.squared_norm, 0.0)
        # ‖J g‖², by a difference: not every forward model can be differentiated twice.
        length = torch.stack([squared_length(part) for part in parts]).sum(dim=0)
        by_error = _TRIAL * error / steepness
        by_length = _LONGEST_TRIAL * (length / steepness).sqrt()
        trial = torch.where((by_length > 0) & (by_length < by_error), by_length, by_error)
        trial = torch.where(steepness > 0, trial, 0.0)
        ahead = self._residual(build(_moved(parts, slope, trial)))
        change = squared_length(ahead - residual) / trial.square()
        step = steepness / change
        return torch.where(torch.isfinite(step), step, 0.0)

    def _share_of_step(self, before: Float[Tensor, "b *o"], after: Float[Tensor, "b *o"]) -> Float[Tensor, " b"]:
        """Return the share of a step that brings the squared residual to the goal; at most all of it."""
        first, last = squared_length(before), squared_length(after)
        # first − 2 slope s + curvature s² = goal, at the smaller s.
        curvature = squared_length(after - before)
        slope = (first - last + curvature) / 2
        root = (slope.square() - curvature * (first - self.goal)).clamp(min=0).sqrt()
        share = (first - self.goal) / (slope + root)
        return torch.where(last < self.goal, share.clamp(0, 1), 1.0)

    def _differentiated(
        self, parts: list[Tensor], build: Callable[[list[Tensor]], Any]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, "b *o"], list[Tensor]]:
        """Compute the squared residual of each element, the residual, and the gradient of half the square."""
        with torch.enable_grad():
            leaves = [part.detach().requires_grad_() for part in parts]
            residual = self._residual(build(leaves))
            error = squared_length(residual)
            if not error.requires_grad:
                raise UserError(
                    "context_guidance needs a forward model whose observations of the context can be "
                    "differentiated in the signal; these do not depend on it"
                )
            slopes = torch.autograd.grad(error.sum() / 2, leaves, allow_unused=True)
        slope = [torch.zeros_like(p) if s is None else s for p, s in zip(parts, slopes, strict=True)]
        return error.detach(), residual.detach(), slope

    def _residual(self, signal: Any) -> Float[Tensor, "b *o"]:
        observed, context = self.forward_model(signal, self.context.params), self.context.observation
        if observed.shape != context.shape:
            raise UserError(
                "context_guidance compares the context with observations under its parameters, which have shape "
                f"{tuple(observed.shape[1:])} a scene, but the context {tuple(context.shape[1:])}"
            )
        return observed.to(at_least_float32(observed)) - context


def squared_length(tensor: Tensor) -> Float[Tensor, " b"]:
    """Return the sum of the squares of each element of a batch, in float32 at least; of a tensor [b] too."""
    return tensor.to(at_least_float32(tensor)).reshape(len(tensor), -1).square().sum(dim=1)


def _greatest_noise(deviation: Tensor) -> Float[Tensor, " b"]:
    """Return the squared length that noise rarely exceeds: two standard deviations above its mean."""
    return squared_length(deviation) + 2 * (2 * squared_length(deviation.square())).sqrt()


def _beside(values: Float[Tensor, " b"] | Bool[Tensor, " b"], tensor: Tensor) -> Tensor:
    """Shape values of the elements of a batch to multiply a tensor."""
    return values.reshape(-1, *[1] * (tensor.ndim - 1))


def _moved(parts: list[Tensor], slope: list[Tensor], step: Float[Tensor, " b"]) -> list[Tensor]:
    """Return the parts of signals after a step of each down its slope."""
    return [part - _beside(step, part) * down for part, down in zip(parts, slope, strict=True)]


def _float_tensors(signal: Any) -> list[Tensor]:
    return [tensor for _, tensor in named_tensors(signal, "") if tensor.is_floating_point()]


def _with_float_tensors(signal: Any, parts: list[Tensor]) -> Any:
    """Replace the signal's floating-point tensors, in the order of `_float_tensors`."""
    others = iter(parts)
    return map_tensors(lambda tensor: next(others) if tensor.is_floating_point() else tensor, signal)
