"""PLMS: linear multistep on the noise, with the weights of even steps (Liu et al. 2022; Zhang and Chen 2023)."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.samplers.base import Sampler
from dfm_lightning.diffusion.samplers.evaluation import DrawNoise, Evaluated, Evaluator, Point, SamplingStep
from dfm_lightning.diffusion.samplers.linear_multistep import adams_bashforth, check_order, weighted
from dfm_lightning.diffusion.samplers.steps import along_noise, first_order
from dfm_lightning.diffusion.spacing import Spacing, Trailing

WarmUp = Literal["lower_orders", "heun", "runge_kutta"]


class PLMS(Sampler):
    """Pseudo linear multistep (PNDM, iPNDM). One evaluation a step after the warm-up; second order.

    The weights are those of even steps whatever the steps are; their lengths should change little from one to the
    next. The last step is of first order: the sample is the last estimate.

    Args:
        steps: number of steps.
        order: number of evaluations that a step combines, 1 to 4.
        warm_up: what the first steps do while there is no history. "lower_orders" (iPNDM): as many evaluations as
            there are. "heun" (PLMS in diffusers): the first step is repeated with the mean of the noise at its two
            ends, one evaluation more. "runge_kutta" (F-PNDM): the first three steps take four evaluations each.
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
        spacing: which levels are visited; `Trailing` if none is given. It is clipped unless the warm-up is of
            lower orders: the others cannot begin where the signal rate is almost 0.
    """

    def __init__(
        self,
        steps: int = 50,
        order: int = 4,
        warm_up: WarmUp = "lower_orders",
        temperature: Number = 1.0,
        threshold_quantile: Number = 0.0,
        spacing: Spacing | None = None,
    ) -> None:
        check_order(order)
        self.order = order
        self.warm_up = warm_up
        super().__init__(steps, temperature, threshold_quantile, spacing)

    def default_spacing(self) -> Spacing:
        """See `Sampler.default_spacing`."""
        return Trailing(clipped=self.warm_up != "lower_orders")

    @property
    def warm_up_steps(self) -> int:
        """Return the number of steps made with extra evaluations instead of history."""
        return min({"lower_orders": 0, "heun": 1, "runge_kutta": 3}[self.warm_up], self.steps - 1)

    @property
    def evaluations(self) -> int:
        """See `Sampler.evaluations`."""
        return self.steps + self.warm_up_steps * (1 if self.warm_up == "heun" else 3)

    def run(
        self, noisy: Float[Tensor, "b *o"], points: list[Point], evaluate: Evaluator, draw_noise: DrawNoise
    ) -> Iterator[SamplingStep]:
        """See `Sampler.run`."""
        noises: list[Tensor] = []  # newest first
        for index, (current, following) in enumerate(pairwise(points)):
            estimate = evaluate(noisy, current)
            here = Evaluated(current, noisy, estimate.clean)
            noises = [here.noise, *noises][: self.order]
            if following.is_clean:
                noisy = estimate.clean
            elif index >= self.warm_up_steps:
                noisy = along_noise(here, following, weighted(noises, adams_bashforth(len(noises))))
            elif self.warm_up == "heun":
                arrived = noise_at(following, first_order(here, following), evaluate)
                noisy = along_noise(here, following, (here.noise + arrived) / 2)
            else:
                noisy = along_noise(here, following, runge_kutta(here, following, evaluate))
            yield SamplingStep(noisy, estimate.clean, estimate.source)


def noise_at(point: Point, noisy: Float[Tensor, "b *o"], evaluate: Evaluator) -> Float[Tensor, "b *o"]:
    """Evaluate at a point, for the noise in the observation there."""
    return Evaluated(point, noisy, evaluate(noisy, point).clean).noise


def runge_kutta(start: Evaluated, following: Point, evaluate: Evaluator) -> Float[Tensor, "b *o"]:
    """Return the noise of a step by the classic fourth-order weights; three more evaluations (Liu et al. 2022)."""
    middle = evaluate.midpoint(start.point, following)
    second = noise_at(middle, first_order(start, middle), evaluate)
    third = noise_at(middle, along_noise(start, middle, second), evaluate)
    fourth = noise_at(following, along_noise(start, following, third), evaluate)
    return (start.noise + 2 * second + 2 * third + fourth) / 6
