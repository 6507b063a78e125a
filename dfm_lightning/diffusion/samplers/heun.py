"""Heun's method: two evaluations a step, second order without history."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.samplers.base import Sampler
from dfm_lightning.diffusion.samplers.evaluation import DrawNoise, Evaluated, Evaluator, Point, SamplingStep
from dfm_lightning.diffusion.samplers.steps import along_noise, first_order
from dfm_lightning.diffusion.spacing import Spacing, Trailing


class Heun(Sampler):
    """Heun's second-order method (Karras et al. 2022, algorithm 1), the last step to clean being of first order.

    Two evaluations a step, one in the last: 2 · steps − 1.

    Args:
        steps: number of steps.
        integrates: "rho": the noise over ρ = σ/α, as the authors do; cannot begin where the signal rate is almost
            0. "lambda": the clean estimate over λ = ln(α/σ), as DPM-Solver++ does; begins at any level.
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
        spacing: which levels are visited; `Trailing`, clipped, if none is given.
    """

    def __init__(
        self,
        steps: int = 50,
        integrates: Literal["rho", "lambda"] = "rho",
        temperature: Number = 1.0,
        threshold_quantile: Number = 0.0,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__(steps, temperature, threshold_quantile, spacing)
        self.integrates = integrates

    def default_spacing(self) -> Spacing:
        """See `Sampler.default_spacing`."""
        return Trailing(clipped=True)

    @property
    def evaluations(self) -> int:
        """See `Sampler.evaluations`."""
        return 2 * self.steps - 1

    def run(
        self, noisy: Float[Tensor, "b *o"], points: list[Point], evaluate: Evaluator, draw_noise: DrawNoise
    ) -> Iterator[SamplingStep]:
        """See `Sampler.run`."""
        for current, following in pairwise(points):
            estimate = evaluate(noisy, current)
            if following.is_clean:
                noisy = estimate.clean
            else:
                here = Evaluated(current, noisy, estimate.clean)
                ahead = first_order(here, following)
                there = Evaluated(following, ahead, evaluate(ahead, following).clean)
                if self.integrates == "rho":
                    noisy = along_noise(here, following, (here.noise + there.noise) / 2)
                else:
                    noisy = first_order(here, following, (here.clean + there.clean) / 2)
            yield SamplingStep(noisy, estimate.clean, estimate.source)
