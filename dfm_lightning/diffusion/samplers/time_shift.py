"""Time-shift sampling: each observation has the level that its own variance suggests (Li et al. 2024)."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import NoiseProcess, Number
from dfm_lightning.diffusion.samplers.base import MultistepSampler, Sampler
from dfm_lightning.diffusion.samplers.ddim import DDIM
from dfm_lightning.diffusion.samplers.evaluation import DrawNoise, Evaluated, Evaluator, Point, SamplingStep
from dfm_lightning.ranges import check_at_least


class TimeShift(Sampler):
    """Another sampler whose levels are moved, for each sample separately, to fit its observation.

    Errors of earlier estimates leave an observation noisier or less noisy than its level says (exposure bias). So
    each step is followed by a search, within `window` of the level it leads to, for the level whose variance α² ·
    `data_variance` + σ² is the variance of the observation's numbers. The denoiser is told that level, and the
    next step begins there (Li et al. 2024, who match σ² alone: `data_variance: 0`). Levels still fall from step to
    step.

    It takes as many evaluations as the other sampler. It needs a process of integer levels, and observations of
    many numbers: the variance of a few says little.

    Args:
        sampler: what steps from level to level; with a temperature of 1. The corrector of `UniPC` would undo the
            shift: set `corrector: false`.
        window: greatest distance between the level told and that of the spacing, in levels.
        cutoff: levels of the spacing up to this one are not moved.
        data_variance: variance over the numbers of a clean observation, on average over the data.
    """

    def __init__(
        self,
        sampler: MultistepSampler | None = None,
        window: int = 20,
        cutoff: Number = 200,
        data_variance: Number = 0.0,
    ) -> None:
        check_at_least(0, window=window, cutoff=cutoff, data_variance=data_variance)
        self.sampler = DDIM() if sampler is None else sampler
        if getattr(self.sampler, "corrector", False):
            raise ValueError("sampler must not correct, which would undo the shift: set its corrector to false")
        if self.sampler.temperature != 1:
            raise ValueError(
                f"the temperature of sampler must be 1, got {self.sampler.temperature:g}: another one changes the "
                "variance that levels are known by"
            )
        super().__init__(self.sampler.steps, 1.0, self.sampler.threshold_quantile, self.sampler.spacing)
        self.window = window
        self.cutoff = cutoff
        self.data_variance = data_variance

    @property
    def evaluations(self) -> int:
        """See `Sampler.evaluations`."""
        return self.sampler.evaluations

    def check(self, process: NoiseProcess) -> None:
        """See `Sampler.check`; refuse a process without integer levels."""
        super().check(process)
        if not process.integer_levels:
            raise ValueError("TimeShift looks among integer levels, which this process does not have")

    def run(
        self, noisy: Float[Tensor, "b *o"], points: list[Point], evaluate: Evaluator, draw_noise: DrawNoise
    ) -> Iterator[SamplingStep]:
        """See `Sampler.run`."""
        self.check(evaluate.process)
        batch, memory = len(noisy), self.sampler.memory
        current = [points[0]] * batch
        histories: list[list[Evaluated]] = [[] for _ in current]
        for index, following in enumerate(points[1:]):
            estimate = evaluate(noisy, current)
            steps_left = len(points) - 1 - index
            for row, point in enumerate(current):
                here = Evaluated(point, noisy[row : row + 1], estimate.clean[row : row + 1])
                evaluated = self.sampler.corrected(here, histories[row], steps_left)
                histories[row] = [evaluated, *histories[row]][:memory]
            if following.is_clean:
                noisy = estimate.clean
            else:
                noisy = self._stepped(histories, following, steps_left, draw_noise)
                current = self._shifted(noisy, points[index + 1 : index + 3], current, evaluate)
            yield SamplingStep(noisy, estimate.clean, estimate.source)

    def _stepped(
        self, histories: list[list[Evaluated]], following: Point, steps_left: int, draw_noise: DrawNoise
    ) -> Float[Tensor, "b *o"]:
        """Step each sample on from its own level, with its share of the fresh noise."""
        fresh: list[Tensor] = []

        def own(row: int) -> Tensor:
            if not fresh:
                fresh.append(draw_noise())
            return fresh[0][row : row + 1]

        return torch.cat(
            [
                self.sampler.step(history, following, steps_left, partial(own, row))
                for row, history in enumerate(histories)
            ]
        )

    def _shifted(
        self, noisy: Float[Tensor, "b *o"], ahead: list[Point], before: list[Point], evaluate: Evaluator
    ) -> list[Point]:
        """Find the level of each sample that has come to the first of the points ahead."""
        nominal, after = ahead
        if nominal.level <= self.cutoff or self.window == 0:
            return [nominal] * len(noisy)
        variances = noisy.flatten(1).double().var(dim=1, correction=0).tolist()
        found = []
        for variance, earlier in zip(variances, before, strict=True):
            least = max(int(nominal.level) - self.window, int(after.level) + 1)
            most = min(int(nominal.level) + self.window, int(earlier.level) - 1)
            rates = np.array([evaluate.process.exact_rates(level) for level in range(least, most + 1)])
            expected = rates[:, 0] ** 2 * self.data_variance + rates[:, 1] ** 2
            found.append(evaluate.point(least + int(np.abs(expected - variance).argmin())))
        return found
