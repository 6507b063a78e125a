"""Momentum on the noise, which widens the region where large steps are stable (Wizadwongsa et al. 2023)."""

from abc import abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.samplers.base import Sampler
from dfm_lightning.diffusion.samplers.evaluation import DrawNoise, Evaluated, Evaluator, Point, SamplingStep
from dfm_lightning.diffusion.samplers.linear_multistep import adams_bashforth, check_order, weighted
from dfm_lightning.diffusion.samplers.steps import along_noise
from dfm_lightning.diffusion.spacing import Spacing


class Memory(NamedTuple):
    """The memory of one call of `sample`: the tensors that a step combines, newest first, and the velocity."""

    past: tuple[Tensor, ...]
    velocity: Tensor | None


class MomentumSampler(Sampler):
    """A linear multistep method on the noise that follows a velocity v ← (1 − β) v + β ε, which lags behind it.

    Args:
        steps: number of steps, and of evaluations.
        order: number of evaluations or velocities that a step combines, 1 to 4.
        momentum: β, above 0 and up to 1; at 1 the velocity is the noise itself.
        temperature: see `Sampler`.
        threshold_quantile: see `Sampler`.
        spacing: see `Sampler`.
    """

    def __init__(
        self,
        steps: int = 50,
        order: int = 2,
        momentum: Number = 0.8,
        temperature: Number = 1.0,
        threshold_quantile: Number = 0.0,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__(steps, temperature, threshold_quantile, spacing)
        check_order(order)
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must be above 0 and at most 1, got {momentum}")
        self.order = order
        self.momentum = momentum

    def run(
        self, noisy: Float[Tensor, "b *o"], points: list[Point], evaluate: Evaluator, draw_noise: DrawNoise
    ) -> Iterator[SamplingStep]:
        """See `Sampler.run`."""
        memory = Memory((), None)
        for current, following in pairwise(points):
            estimate = evaluate(noisy, current)
            here = Evaluated(current, noisy, estimate.clean)
            direction, memory = self.direction(here.noise, memory)
            noisy = estimate.clean if following.is_clean else along_noise(here, following, direction)
            yield SamplingStep(noisy, estimate.clean, estimate.source)

    @abstractmethod
    def direction(self, noise: Float[Tensor, "b *o"], memory: Memory) -> tuple[Float[Tensor, "b *o"], Memory]:
        """Return the noise along which to step, given that at a level, and the memory for the next step."""

    def accelerated(self, velocity: Tensor | None, noise: Float[Tensor, "b *o"]) -> Float[Tensor, "b *o"]:
        """Return the velocity after some noise; the first velocity is the first noise."""
        return noise if velocity is None else velocity + self.momentum * (noise - velocity)


class GHVB(MomentumSampler):
    """Generalised heavy ball: Adams–Bashforth on velocities, with weights that compensate for their lag.

    One evaluation a step. Like `PLMS` it treats all steps as even; second order, if `order` is 2 or more. The last
    step is of first order: the sample is the last estimate.

    Args:
        steps: number of steps, and of evaluations.
        order: number of velocities that a step combines, 1 to 4. The authors write k + β for order k + 1:
            "GHVB2.8" is order 3 with momentum 0.8.
        momentum: β, above 0 and up to 1. At 1 there is none (`PLMS`); the smaller, the more it damps.
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
        spacing: which levels are visited; `Trailing` if none is given.
    """

    def direction(self, noise: Float[Tensor, "b *o"], memory: Memory) -> tuple[Float[Tensor, "b *o"], Memory]:
        """See `MomentumSampler.direction`."""
        velocity = self.accelerated(memory.velocity, noise)
        past = (velocity, *memory.past)[: self.order]
        return weighted(past, adams_bashforth(len(past), self.momentum)), Memory(past, velocity)


class HeavyBall(MomentumSampler):
    """Polyak's heavy ball (HB) after Adams–Bashforth: the velocity follows what that combines. First order.

    One evaluation a step. Like `PLMS` it treats all steps as even. The last step is the last estimate.

    Args:
        steps: number of steps, and of evaluations.
        order: number of evaluations that a step combines, 1 to 4. The authors write k + β for order k + 1:
            "HB2.8" is order 3 with momentum 0.8.
        momentum: β, above 0 and up to 1. At 1 there is none (`PLMS`); the smaller, the more it damps.
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
        spacing: which levels are visited; `Trailing` if none is given.
    """

    def direction(self, noise: Float[Tensor, "b *o"], memory: Memory) -> tuple[Float[Tensor, "b *o"], Memory]:
        """See `MomentumSampler.direction`."""
        past = (noise, *memory.past)[: self.order]
        velocity = self.accelerated(memory.velocity, weighted(past, adams_bashforth(len(past))))
        return velocity, Memory(past, velocity)
