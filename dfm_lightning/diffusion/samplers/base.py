"""The base classes of samplers, and their contract.

A sampler turns noise into a clean observation by asking `denoise` for estimates of it. It knows observations only,
and passes on the source of an estimate (its signal, say) without looking at it.

The contract, which tests hold every sampler to:

- The last evaluation's clean estimate is the sample, and its source the sample's source. The observation that
  sampling returns is therefore an observation of the signal that it returns.
- Cost is counted in evaluations of `denoise`: `evaluations` says how many a call of `sample` makes.
- Nothing is remembered from one call of `sample` to the next.
- Estimates are guided (by `denoise`) and thresholded before they enter the history of a multistep method.
- Coefficients are computed in double precision from the process's exact rates, on the CPU.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import NoiseProcess, Number
from dfm_lightning.diffusion.samplers.evaluation import (
    Denoise,
    DrawNoise,
    Evaluated,
    Evaluator,
    Point,
    SamplingStep,
)
from dfm_lightning.diffusion.spacing import Spacing, Trailing
from dfm_lightning.ranges import check_above, check_at_least, check_within
from dfm_lightning.record import Recorded


class Sampler(Recorded, ABC):
    """Runs the reverse process.

    Args:
        steps: number of levels visited between noise and clean; what a step costs depends on the sampler, see
            `evaluations`.
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
        spacing: which levels are visited; `Trailing` if none is given.
    """

    def __init__(
        self,
        steps: int = 50,
        temperature: Number = 1.0,
        threshold_quantile: Number = 0.0,
        spacing: Spacing | None = None,
    ) -> None:
        check_above(0, temperature=temperature)
        check_within(0, 1, threshold_quantile=threshold_quantile)
        self.steps = steps
        self.temperature = temperature
        self.threshold_quantile = threshold_quantile
        self.spacing = spacing or self.default_spacing()
        self.spacing.check(steps)

    def check(self, process: NoiseProcess) -> None:
        """Refuse a process that does not have the levels to be visited.

        Raises:
            ValueError: it does not have them.
        """
        self.spacing.levels(self.steps, process)

    def default_spacing(self) -> Spacing:
        """Return the spacing that is used if none is given."""
        return Trailing()

    @property
    def evaluations(self) -> int:
        """Return how often one call of `sample` evaluates `denoise`."""
        return self.steps

    def levels(self, process: NoiseProcess) -> list[Number]:
        """Return the levels visited, falling, with −1 (clean) at the end: steps + 1 of them."""
        return [*self.spacing.levels(self.steps, process), -1]

    def sample(
        self, denoise: Denoise, noise: Float[Tensor, "b *o"], process: NoiseProcess, draw_noise: DrawNoise
    ) -> Iterator[SamplingStep]:
        """Yield each step from `noise` (standard normal) on; the last step's `noisy` is the sample.

        Args:
            denoise: estimates the clean observation from a noisy one and its level.
            noise: standard normal noise of the observation's shape.
            process: the noising that is reversed.
            draw_noise: gives fresh standard normal noise of the same shape to samplers that need it.
        """
        evaluate = Evaluator(denoise, process, self.threshold_quantile)
        points = [evaluate.point(level) for level in self.levels(process)]
        start = noise * (self.temperature * process.prior_std(points[0].level))
        yield from self.run(start, points, evaluate, draw_noise)

    @abstractmethod
    def run(
        self, noisy: Float[Tensor, "b *o"], points: list[Point], evaluate: Evaluator, draw_noise: DrawNoise
    ) -> Iterator[SamplingStep]:
        """Yield each step from the first of the points to the last one, which is clean."""


def last_step(
    sampler: Sampler, denoise: Denoise, noise: Float[Tensor, "b *o"], process: NoiseProcess, draw_noise: DrawNoise
) -> SamplingStep:
    """Return the last step of a sampling, whose `noisy` is the sample; those before it are not kept."""
    for step in sampler.sample(denoise, noise, process, draw_noise):  # noqa: B007
        pass
    return step


class MultistepSampler(Sampler):
    """A sampler that evaluates once a level, and steps on with the help of earlier evaluations.

    Subclasses say how many of them they need (`memory`), and where a step leads. The step to clean is always the
    last estimate itself.
    """

    @property
    def memory(self) -> int:
        """Return the number of evaluations that the history keeps."""
        return 1

    def run(
        self, noisy: Float[Tensor, "b *o"], points: list[Point], evaluate: Evaluator, draw_noise: DrawNoise
    ) -> Iterator[SamplingStep]:
        """See `Sampler.run`."""
        history: list[Evaluated] = []
        for index, (current, following) in enumerate(pairwise(points)):
            estimate = evaluate(noisy, current)
            steps_left = len(points) - 1 - index
            evaluated = self.corrected(Evaluated(current, noisy, estimate.clean), history, steps_left)
            history = [evaluated, *history][: self.memory]
            if following.is_clean:
                noisy = estimate.clean
            else:
                noisy = self.step(history, following, steps_left, draw_noise)
            yield SamplingStep(noisy, estimate.clean, estimate.source)

    def corrected(self, evaluated: Evaluated, history: list[Evaluated], steps_left: int) -> Evaluated:
        """Improve the observation at a level with the evaluation there; here, leave it as it is."""
        return evaluated

    @abstractmethod
    def step(
        self, history: list[Evaluated], following: Point, steps_left: int, draw_noise: DrawNoise
    ) -> Float[Tensor, "b *o"]:
        """Return the observation at the following level, which is noisy.

        Args:
            history: evaluations, newest first.
            following: where to go.
            steps_left: number of steps to the end, this one and the one to clean included; at least 2.
            draw_noise: see `Sampler.sample`.
        """


class HigherOrderSampler(MultistepSampler):
    """A multistep sampler of second or third order, of lower order where its history is short or uneven.

    Args:
        steps: number of steps, and of evaluations.
        order: 2 or 3; as many evaluations are kept.
        uneven_below: a step uses an earlier one only if that is at least so many times as long in λ (and all those
            after it are); 0 uses all.
        temperature: see `Sampler`.
        threshold_quantile: see `Sampler`.
        spacing: see `Sampler`.
    """

    def __init__(
        self,
        steps: int,
        order: int,
        uneven_below: Number,
        temperature: Number,
        threshold_quantile: Number,
        spacing: Spacing | None,
    ) -> None:
        super().__init__(steps, temperature, threshold_quantile, spacing)
        if order not in (2, 3):
            raise ValueError(f"order must be 2 or 3, got {order}")
        check_at_least(0, uneven_below=uneven_below)
        self.order = order
        self.uneven_below = uneven_below

    @property
    def memory(self) -> int:
        """See `MultistepSampler.memory`."""
        return self.order
