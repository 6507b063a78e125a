"""Gradients through sampling: exact with the memory of one evaluation, or of the continuous equation."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dfm_lightning.diffusion.noise_process import NoiseProcess, Number
from dfm_lightning.diffusion.samplers.base import Sampler, last_step
from dfm_lightning.diffusion.samplers.dpm_solver import change
from dfm_lightning.diffusion.samplers.evaluation import (
    Denoise,
    DrawNoise,
    Estimate,
    Evaluated,
    Evaluator,
    Point,
    SamplingStep,
)
from dfm_lightning.diffusion.samplers.steps import first_order
from dfm_lightning.errors import UserError

Score = Callable[[Estimate], Tensor]


def sample_with_gradients(
    sampler: Sampler,
    denoise: Denoise,
    noise: Float[Tensor, "b *o"],
    process: NoiseProcess,
    draw_noise: DrawNoise | None = None,
) -> SamplingStep:
    """Sample so that the result can be differentiated, with the memory of one evaluation.

    The gradient is that of the sampler's own steps, with respect to the noise and to all that `denoise` depends on
    (context, parameters, weights). Only the input observation of each evaluation is stored; the backward pass
    repeats the evaluation there. A gradient therefore takes two evaluations and one backward pass for each
    evaluation of the sampler, and memory grows only by a few observations for each.

    `denoise` must give the same result again: no dropout, no rays drawn at random.

    Args:
        sampler: the reverse process.
        denoise: estimates the clean observation from a noisy one and its level.
        noise: standard normal noise of the observation's shape.
        process: the noising that is reversed.
        draw_noise: gives fresh noise to samplers that need it; without it those are refused.

    Returns:
        The last step: its `noisy` is the sample, `source` what that is an observation of.

    Raises:
        UserError: the sampler needs fresh noise, and there is no `draw_noise`.
    """

    def evaluate(noisy: Tensor, level: Tensor) -> Estimate | Tensor:
        return checkpoint(denoise, noisy, level, use_reentrant=False)

    with torch.enable_grad():
        return last_step(sampler, evaluate, noise, process, draw_noise or refuse_noise)


class AdjointGradients(NamedTuple):
    """A sample's score, and its gradients by the adjoint equation.

    `noise` has the shape of the initial noise; `inputs` are in the order they were asked for in.
    """

    value: Float[Tensor, ""]
    sample: Float[Tensor, "b *o"]
    noise: Float[Tensor, "b *o"]
    inputs: list[Tensor]


def adjoint_gradients(
    sampler: Sampler,
    denoise: Denoise,
    noise: Float[Tensor, "b *o"],
    process: NoiseProcess,
    score: Score,
    inputs: Sequence[Tensor] = (),
    levels: Sequence[Number] | None = None,
) -> AdjointGradients:
    """Differentiate a score of the sample by the adjoint of the probability-flow equation.

    After AdjointDPM (Pan et al. 2024): the observation and the gradient with respect to it are integrated back
    from the last level to the first one, side by side. Nothing is stored on the way there, so that memory does not
    grow with the number of evaluations. The gradient is that of the continuous equation. It differs from that of
    the sampler's few steps by the errors of both discretisations (`docs/notes/sampling.md` has the numbers). The
    evaluation at the last level, whose estimate is the sample, is differentiated directly.

    With ℓ = ln(σ/α) and the clean estimate m(x), the gradient g for x obeys dg/dℓ = α (∂m/∂x)ᵀ g − α² g. It takes
    a second-order predictor and corrector, one evaluation a level.

    Args:
        sampler: a deterministic reverse process.
        denoise: estimates the clean observation from a noisy one and its level.
        noise: standard normal noise of the observation's shape.
        process: the noising that is reversed.
        score: a number for the last estimate (and its source).
        inputs: what to differentiate by besides the noise: tensors that `denoise` depends on.
        levels: levels visited on the way back, rising; the sampler's own if none are given. The first and the last
            are the sampler's last and first ones.

    Raises:
        UserError: the sampler draws fresh noise.
        ValueError: the levels do not rise from the sampler's last to its first one.
    """
    evaluate = Evaluator(denoise, process, sampler.threshold_quantile)
    visited = sampler.levels(process)[:-1]
    back = list(reversed(visited)) if levels is None else list(levels)
    if back[0] != visited[-1] or back[-1] != visited[0] or any(b <= a for a, b in pairwise(back)):
        raise ValueError(f"levels must rise from {visited[-1]} to {visited[0]}, got {back}")
    points = [evaluate.point(level) for level in back]
    scale = sampler.temperature * process.prior_std(visited[0])
    with torch.no_grad():
        noisy = noise * scale
        for step in sampler.sample(denoise, noise, process, refuse_noise):
            before, noisy = noisy, step.noisy
    with torch.enable_grad():
        noisy = before.detach().requires_grad_()
        estimate = evaluate(noisy, points[0])
        value = score(estimate)
    first, *total = _gradients(value, [noisy, *inputs])
    here = Evaluated(points[0], noisy, estimate.clean)
    gradient = _integrate_back(evaluate, points, here, first, inputs, total)
    return AdjointGradients(value.detach(), estimate.clean.detach(), gradient * scale, total)


def refuse_noise() -> Tensor:
    """Refuse to draw noise.

    Raises:
        UserError: always.
    """
    raise UserError("this sampler draws fresh noise at its steps: give draw_noise, or take one with eta 0")


def _integrate_back(
    evaluate: Evaluator,
    points: list[Point],
    here: Evaluated,
    gradient: Float[Tensor, "b *o"],
    inputs: Sequence[Tensor],
    total: list[Tensor],
) -> Float[Tensor, "b *o"]:
    """Integrate the gradient from the first of the points to the last; add those of the inputs to `total`.

    `here` is an evaluation at the first point, still with its graph.
    """
    logs = [-point.log_ratio for point in points]
    start: Adjoint | None = None
    for index, point in enumerate(points):
        # ∂m/∂x and ∂m/∂θ, both applied to α g, which is the gradient for x/α.
        by_noisy, *by_inputs = _gradients(here.clean, [here.noisy, *inputs], point.signal_rate * gradient)
        length = logs[min(index + 1, len(logs) - 1)] - logs[max(index - 1, 0)]
        for sum_, part in zip(total, by_inputs, strict=True):
            sum_ += length / 2 * part
        slope = by_noisy - point.signal_rate**2 * gradient
        here = here._replace(noisy=here.noisy.detach(), clean=here.clean.detach())
        if start is not None:  # the step that led here, with what was found here
            gradient = start.gradient + (logs[index] - logs[index - 1]) * (start.slope + slope) / 2
            here = here._replace(noisy=_stepped(start.evaluated, point, here))
        if index + 1 == len(points):
            break
        following, step = points[index + 1], logs[index + 1] - logs[index]
        arrived, older = Adjoint(here, gradient, slope), start
        gradient = gradient + step * slope
        if older is not None:
            gradient = gradient + step**2 / (logs[index] - logs[index - 1]) / 2 * (slope - older.slope)
        noisy = _stepped(here, following, None if older is None else older.evaluated)
        start = arrived
        with torch.enable_grad():
            noisy = noisy.requires_grad_()
            here = Evaluated(following, noisy, evaluate(noisy, following).clean)
    return gradient


class Adjoint(NamedTuple):
    """An evaluation on the way back, the gradient for its observation, and the gradient's slope over ln(σ/α)."""

    evaluated: Evaluated
    gradient: Float[Tensor, "b *o"]
    slope: Float[Tensor, "b *o"]


def _stepped(start: Evaluated, following: Point, other: Evaluated | None) -> Float[Tensor, "b *o"]:
    """Step with the clean estimate linear in λ through the start's and another evaluation, before or after it."""
    result = first_order(start, following)
    if other is None:
        return result
    length = following.log_ratio - start.point.log_ratio
    return result + following.signal_rate * change([start, other], length, length, 2, "integral")


def _gradients(value: Tensor, by: Sequence[Tensor], factor: Tensor | None = None) -> list[Tensor]:
    """Differentiate; return zeros where nothing depends on it. Keep what evaluations share (conditioning)."""
    found = torch.autograd.grad(value, list(by), factor, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(tensor) if part is None else part for tensor, part in zip(by, found, strict=True)]
