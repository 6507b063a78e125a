"""SVDD: each step takes the candidate whose estimate promises the largest reward (Li et al. 2024)."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.reward_guidance.reward import Reward, gumbel
from dfm_lightning.diffusion.samplers.ddim import DDIM
from dfm_lightning.diffusion.samplers.evaluation import DrawNoise, Evaluated, Evaluator, Point, SamplingStep
from dfm_lightning.diffusion.spacing import Spacing
from dfm_lightning.ranges import check_above, check_at_least


class SVDD(DDIM):
    """Soft value-based decoding (Li et al. 2024, algorithm 1, with the reward of the posterior mean as value).

    Each step draws several candidates for the next observation, evaluates each, and continues with one: drawn with
    probabilities softmax(reward of the clean estimate / `softness`), or the best. It needs no gradient of the
    reward. With more candidates and levels, samples come nearer to the model's distribution weighted by
    e^(reward / softness).

    Cost: `candidates` evaluations a step, one in the first step, and one of the final choice.

    Args:
        reward: what to look for.
        steps: number of levels.
        candidates: number of candidates at each step.
        softness: α: the smaller, the more the reward counts; 0 takes the best candidate.
        eta: how much fresh noise candidates differ by, above 0; 1 as much as in the ancestral sampler (DDPM).
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
        spacing: which levels are visited; `Trailing` if none is given.
    """

    def __init__(
        self,
        reward: Reward,
        steps: int = 50,
        candidates: int = 8,
        softness: Number = 0.0,
        eta: Number = 1.0,
        temperature: Number = 1.0,
        threshold_quantile: Number = 0.0,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__(steps, eta, temperature, threshold_quantile, spacing)
        check_above(0, eta=eta)
        check_at_least(1, candidates=candidates)
        check_at_least(0, softness=softness)
        self.reward = reward
        self.candidates = candidates
        self.softness = softness

    @property
    def evaluations(self) -> int:
        """See `Sampler.evaluations`."""
        return 1 if self.steps == 1 else 2 + self.candidates * (self.steps - 1)

    def run(
        self, noisy: Float[Tensor, "b *o"], points: list[Point], evaluate: Evaluator, draw_noise: DrawNoise
    ) -> Iterator[SamplingStep]:
        """See `Sampler.run`."""
        estimate = evaluate(noisy, points[0])
        clean = estimate.clean
        for index, (current, following) in enumerate(pairwise(points[:-1])):
            here, steps_left = Evaluated(current, noisy, clean), len(points) - 1 - index
            noisy, clean = self._chosen(here, following, steps_left, evaluate, draw_noise)
            # (Which of several sources a row's is, only the last evaluation knows.)
            yield SamplingStep(noisy, here.clean)
        if len(points) > 2:
            estimate = evaluate(noisy, points[-2])
        yield SamplingStep(estimate.clean, estimate.clean, estimate.source)

    def _chosen(
        self, here: Evaluated, following: Point, steps_left: int, evaluate: Evaluator, draw_noise: DrawNoise
    ) -> tuple[Tensor, Tensor]:
        """Step to several candidates; the chosen one of each row, and its clean estimate."""
        best: Tensor | None = None
        for _ in range(self.candidates):
            noisy = self.step([here], following, steps_left, draw_noise)
            estimate = evaluate(noisy, following)
            value = self.reward(estimate.clean, estimate.source).double()
            if self.softness > 0:
                value = value / self.softness + gumbel(draw_noise())
            if best is None:
                best, chosen, clean = value, noisy, estimate.clean
                continue
            better = (value > best).view(-1, *[1] * (noisy.ndim - 1))
            best = torch.maximum(value, best)
            chosen, clean = torch.where(better, noisy, chosen), torch.where(better, estimate.clean, clean)
        return chosen, clean
