"""DPM-Solver++: the probability-flow equation and its stochastic sibling, solved in λ = ln(α/σ).

With the clean estimate m as a function of λ, x/σ changes by e^λ m dλ. The solvers integrate the exponential
exactly, and m as a polynomial through its latest values (Lu et al. 2022b, eq. 9).
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.samplers.base import HigherOrderSampler, Sampler
from dfm_lightning.diffusion.samplers.evaluation import DrawNoise, Evaluated, Evaluator, Point, SamplingStep
from dfm_lightning.diffusion.samplers.steps import first_order, usable_order
from dfm_lightning.diffusion.spacing import Spacing
from dfm_lightning.ranges import check_within

SecondOrder = Literal["midpoint", "integral"]


class DPMSolver(HigherOrderSampler):
    """DPM-Solver++ in its multistep form (2M, 3M). One evaluation a step; order 2 or 3.

    Args:
        steps: number of steps, and of evaluations.
        order: 2 (2M) or 3 (3M).
        second_order: how a second-order step weighs the change of the estimate. "midpoint": as at the middle of
            the step; "integral": by its exact integral ("heun" in diffusers).
        full_curvature: with order 3, weigh the curvature of the estimate by its whole integral. The authors' code,
            diffusers and k-diffusion weigh it by half of that, which leaves 3M at second order.
        uneven_below: a step uses an earlier one only if that is at least so many times as long in λ (and all those
            after it are); 0 uses all.
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
        spacing: which levels are visited; `Trailing` if none is given.
    """

    def __init__(
        self,
        steps: int = 50,
        order: int = 2,
        second_order: SecondOrder = "midpoint",
        full_curvature: bool = False,
        uneven_below: Number = 0.5,
        temperature: Number = 1.0,
        threshold_quantile: Number = 0.0,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__(steps, order, uneven_below, temperature, threshold_quantile, spacing)
        if full_curvature and order == 2:
            raise ValueError("full_curvature needs order 3: order 2 has no curvature")
        self.second_order = second_order
        self.full_curvature = full_curvature

    def step(
        self, history: list[Evaluated], following: Point, steps_left: int, draw_noise: DrawNoise
    ) -> Float[Tensor, "b *o"]:
        """See `MultistepSampler.step`."""
        # With few steps the one before the last is long and leads to where m hardly changes (Lu et al. 2022b).
        few = self.steps < 15 and steps_left == 2
        order = usable_order(min(self.order, 2) if few else self.order, history, following, self.uneven_below)
        step = following.log_ratio - history[0].point.log_ratio
        result = first_order(history[0], following)
        share = 1.0 if self.full_curvature else 0.5
        return result + following.signal_rate * change(history, step, step, order, self.second_order, share)


class DPMSolverSDE(HigherOrderSampler):
    """The stochastic DPM-Solver++ (SDE 2M, SDE 3M). One evaluation a step.

    Every step replaces part of the noise by fresh noise. That forgets the errors made before, but takes more steps
    to come near the model's distribution than an equation without noise does.

    Args:
        steps: number of steps, and of evaluations.
        order: 2 (SDE 2M) or 3 (SDE 3M): of the part without noise.
        eta: 1 adds as much fresh noise as the ancestral sampler, 0 none.
        second_order: see `DPMSolver`; "midpoint" for order 2 and "integral" for order 3 if none is given.
        uneven_below: a step uses an earlier one only if that is at least so many times as long in λ (and all those
            after it are); 0 uses all.
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
        spacing: which levels are visited; `Trailing` if none is given.
    """

    def __init__(
        self,
        steps: int = 50,
        order: int = 2,
        eta: Number = 1.0,
        second_order: SecondOrder | None = None,
        uneven_below: Number = 0.5,
        temperature: Number = 1.0,
        threshold_quantile: Number = 0.0,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__(steps, order, uneven_below, temperature, threshold_quantile, spacing)
        check_within(0, 1, eta=eta)
        self.eta = eta
        self.second_order: SecondOrder = second_order or ("midpoint" if order == 2 else "integral")

    def step(
        self, history: list[Evaluated], following: Point, steps_left: int, draw_noise: DrawNoise
    ) -> Float[Tensor, "b *o"]:
        """See `MultistepSampler.step`."""
        (point, noisy, clean), *_ = history
        order = usable_order(self.order, history, following, self.uneven_below)
        step = following.log_ratio - point.log_ratio
        # Noise is removed as if the step were 1 + η times as long, and fresh noise makes up the difference.
        longer = (1 + self.eta) * step
        result = math.exp(-self.eta * step) * following.noise_rate / point.noise_rate * noisy
        result = result + following.signal_rate * (
            -math.expm1(-longer) * clean + change(history, step, longer, order, self.second_order)
        )
        if self.eta == 0:
            return result
        return result + following.noise_rate * math.sqrt(-math.expm1(-2 * self.eta * step)) * draw_noise()


def change(
    history: list[Evaluated],
    step: float,
    integrated: float,
    order: int,
    second_order: SecondOrder,
    curvature_share: float = 0.5,
) -> Float[Tensor, "b *o"] | float:
    """Return the contribution of the change of m to a first-order step, over α: ∫ e^(λ−λ_t) (m(λ) − m_s) dλ.

    Args:
        history: evaluations, newest first.
        step: length in λ from the newest evaluation to the end of the step.
        integrated: the length in λ over which m is weighted; as long as the step unless noise is added.
        order: 1 (no change), 2 or 3, at most the number of evaluations.
        second_order: see `DPMSolver`.
        curvature_share: share of the curvature's integral that is used; half in the published third-order methods.
    """
    if order == 1:
        return 0.0
    lengths = [newer.point.log_ratio - older.point.log_ratio for newer, older in pairwise(history)]
    ratios = [length / step for length in lengths]
    slope = (history[0].clean - history[1].clean) / ratios[0]
    linear = math.expm1(-integrated) / integrated + 1
    if order == 2:
        return (-math.expm1(-integrated) / 2 if second_order == "midpoint" else linear) * slope
    earlier = (history[1].clean - history[2].clean) / ratios[1]
    curvature = (slope - earlier) / (ratios[0] + ratios[1])
    quadratic = 1 - 2 * linear / integrated
    return linear * (slope + ratios[0] * curvature) + curvature_share * quadratic * curvature


class DPMSolverSinglestep(Sampler):
    """DPM-Solver++ in its singlestep form (2S). One evaluation a level, two a step of second order.

    Every other level lies within a step: the estimates at its start and there give the step. The last step, or the
    last two if the number of levels is even, are of first order.

    Args:
        steps: number of levels, and of evaluations.
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
        spacing: which levels are visited; `Trailing` if none is given.
    """

    def run(
        self, noisy: Float[Tensor, "b *o"], points: list[Point], evaluate: Evaluator, draw_noise: DrawNoise
    ) -> Iterator[SamplingStep]:
        """See `Sampler.run`."""
        start: Evaluated | None = None  # of a step whose middle has been reached
        for current, following in pairwise(points):
            estimate = evaluate(noisy, current)
            here = Evaluated(current, noisy, estimate.clean)
            if following.is_clean:
                noisy = estimate.clean
            elif start is None:
                start, noisy = here, first_order(here, following)
            else:
                share = (current.log_ratio - start.point.log_ratio) / (following.log_ratio - start.point.log_ratio)
                clean = start.clean + (here.clean - start.clean) / (2 * share)
                noisy, start = first_order(start, following, clean), None
            yield SamplingStep(noisy, estimate.clean, estimate.source)
