"""The common part of zero-shot solvers: the problem, the noise levels they count in, and their refusals.

A zero-shot solver draws from, or approximates, the posterior p(x | y) of a linear problem y = A x + σ_y n by a
denoiser that was trained on images x alone. The solvers are written for states x + t z (variance exploding): t is
the noise level, D(x, t) the denoiser's estimate, ε = (x − D)/t. States of other processes are scaled to this form
and back, so any process of the project can be used.

Each element of a batch is solved independently: no result depends on the batch size.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import NoiseProcess, Number
from dfm_lightning.diffusion.samplers.evaluation import Denoise, DrawNoise, Evaluator, Point
from dfm_lightning.diffusion.spacing import Spacing
from dfm_lightning.diffusion.zero_shot.levels import DDPMLevels
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import (
    Ability,
    LinearOperator,
    check_abilities,
    check_measurement,
    check_noise,
)
from dfm_lightning.record import Recorded
from dfm_lightning.types import at_least_float32, map_tensors


class LinearProblem(NamedTuple):
    """Measurements y = A x + σ_y n of a batch of images; `noise` is σ_y, in the units of the measurements."""

    operator: LinearOperator
    measurement: Float[Tensor, "b p q r"]
    noise: Float[Tensor, " b"]


def linear_problem(
    operator: LinearOperator, measurement: Float[Tensor, "b p q r"], noise: Number | Float[Tensor, " b"]
) -> LinearProblem:
    """Build the problem after checking it.

    Raises:
        UserError: the measurement is empty, of another size than the operator's or not finite; σ_y is negative.
    """
    check_measurement(operator, measurement)
    deviations = torch.as_tensor(noise, dtype=at_least_float32(measurement), device=measurement.device)
    deviations = deviations.expand(len(measurement))
    for deviation in deviations.tolist():
        check_noise(deviation)
    return LinearProblem(operator, measurement, deviations)


class Step(NamedTuple):
    """A step from noise level `t` to `u`, which is 0 at the end, with the denoiser's estimate at `t` and fresh
    noise.
    """

    x: Float[Tensor, "b c h w"]
    clean: Float[Tensor, "b c h w"]
    t: float
    u: float

    @property
    def epsilon(self) -> Float[Tensor, "b c h w"]:
        """Return the noise in the state, of unit variance."""
        return (self.x - self.clean) / self.t


class Denoiser:
    """D(x, t): the denoiser of a process, for states x + t z.

    Args:
        denoise: the function that samplers receive.
        process: whose levels `denoise` knows.
    """

    def __init__(self, denoise: Denoise, process: NoiseProcess) -> None:
        self.evaluate = Evaluator(denoise, process, 0.0)
        self.process = process

    def at(self, level: Number) -> Point:
        """Return the level with its rates."""
        return self.evaluate.point(level)

    def near(self, noise: float) -> Point:
        """Return the level of the process whose noise is nearest to t."""
        level = self.process.level_at(-torch.tensor(noise, dtype=torch.float64).log().item())
        return self.at(round(level) if self.process.integer_levels else level)

    def __call__(self, x: Float[Tensor, "b c h w"], point: Point) -> Float[Tensor, "b c h w"]:
        """Estimate the image, without gradients."""
        with torch.no_grad():
            return self.evaluate(point.signal_rate * x, point).clean

    def with_gradient(
        self, x: Float[Tensor, "b c h w"], point: Point
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        """Return a state that gradients can be taken in, and its estimate."""
        state = x.detach().requires_grad_()
        return state, self.evaluate(point.signal_rate * state, point).clean


class ZeroShotSolver(Recorded, ABC):
    """A solver of linear problems with a denoiser that knows nothing of them.

    Args:
        steps: number of noise levels visited.
        spacing: the choice of levels; that of the method's own code if None.
    """

    # The abilities that it always needs of an operator beyond `apply`.
    needs: ClassVar[frozenset[Ability]] = frozenset()

    def __init__(self, steps: int, spacing: Spacing | None = None) -> None:
        self.steps = steps
        self.spacing = spacing or self.default_spacing()
        self.spacing.check(steps)

    def default_spacing(self) -> Spacing:
        """Return the default levels: those of the 1000 of DDPM whose number is a multiple of 1000 // steps."""
        return DDPMLevels()

    @property
    def evaluations(self) -> int:
        """Return how often `solve` evaluates the denoiser, for each image."""
        return self.steps

    def needed(self, problem: LinearProblem) -> frozenset[Ability]:
        """Return the abilities that this problem requires of the operator."""
        return self.needs

    def solve(
        self,
        denoise: Denoise,
        problem: LinearProblem,
        noise: Float[Tensor, "b c h w"],
        process: NoiseProcess,
        draw_noise: DrawNoise,
    ) -> Float[Tensor, "b c h w"]:
        """Return an image for each measurement.

        Args:
            denoise: estimates the clean image from a noisy one and its level; differentiable for solvers that
                differentiate it.
            problem: made by `linear_problem`.
            noise: standard normal noise to begin with.
            process: whose levels `denoise` knows.
            draw_noise: gives fresh standard normal noise of the same shape.

        Raises:
            UserError: the operator lacks what the solver needs, or the numbers have grown out of all bounds.
        """
        check_abilities(problem.operator, self.needed(problem), type(self).__name__)
        if tuple(noise.shape[1:]) != problem.operator.image_shape or len(noise) != len(problem.measurement):
            raise UserError(
                f"the operator measures images of shape {problem.operator.image_shape}, the denoiser's noise has "
                f"shape {tuple(noise.shape)}"
            )
        # Inference mode, which Lightning uses in test and predict, takes no gradients, even where they are
        # enabled.
        with torch.inference_mode(False), torch.no_grad():
            own = problem._replace(
                measurement=problem.measurement.clone(),
                noise=problem.noise.clone(),
                operator=map_tensors(torch.clone, problem.operator),
            )
            found = self.run(Denoiser(denoise, process), own, noise.clone(), lambda: draw_noise().clone())
        if not bool(torch.isfinite(found).all()):
            raise UserError(f"{type(self).__name__} diverged: its images are not finite; take smaller steps")
        return found

    @abstractmethod
    def run(
        self,
        denoiser: Denoiser,
        problem: LinearProblem,
        noise: Float[Tensor, "b c h w"],
        draw_noise: DrawNoise,
    ) -> Float[Tensor, "b c h w"]:
        """See `solve`."""

    def points(self, denoiser: Denoiser) -> list[Point]:
        """Return the points visited, in falling order, with the clean one last."""
        levels = self.spacing.levels(self.steps, denoiser.process)
        return [denoiser.at(level) for level in (*levels, -1)]


class SteppingSolver(ZeroShotSolver):
    """A solver that passes through the levels once: a start, and a rule for each step."""

    def run(
        self,
        denoiser: Denoiser,
        problem: LinearProblem,
        noise: Float[Tensor, "b c h w"],
        draw_noise: DrawNoise,
    ) -> Float[Tensor, "b c h w"]:
        """See `ZeroShotSolver.run`."""
        points = self.points(denoiser)
        rule = self.rule(problem)
        x = rule.start(noise, points[0].ratio)
        for current, following in pairwise(points):
            x = rule.step(denoiser, x, current, 0.0 if following.is_clean else following.ratio, draw_noise)
        return x

    @abstractmethod
    def rule(self, problem: LinearProblem) -> "Rule":
        """Make the rule for a problem."""


class Rule:
    """The steps of a solver for one batch of problems."""

    def start(self, noise: Float[Tensor, "b c h w"], t: float) -> Float[Tensor, "b c h w"]:
        """Return the first state, at the noisiest level; here noise with the mean square of a noisy image."""
        return noise * (1 + t**2) ** 0.5

    def step(
        self, denoiser: Denoiser, x: Float[Tensor, "b c h w"], point: Point, u: float, draw_noise: DrawNoise
    ) -> Float[Tensor, "b c h w"]:
        """Return the state at noise level u."""
        return self.move(Step(x, denoiser(x, point), point.ratio, u), draw_noise())

    def move(self, step: Step, noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the state at noise level u, for rules that need no gradient."""
        raise NotImplementedError


def column(numbers: Float[Tensor, " b"]) -> Float[Tensor, "b 1"]:
    """Shape numbers of a batch to multiply coordinates."""
    return numbers[:, None]


def pixelwise(numbers: Float[Tensor, " b"]) -> Float[Tensor, "b 1 1 1"]:
    """Shape numbers of a batch to multiply images."""
    return numbers.view(-1, 1, 1, 1)


def geometric_grid(first: float, last: float, count: int, rho: float = 7.0) -> Iterator[float]:
    """Return noise levels uniform in t^(1/ρ) (Karras et al. 2022): `count` + 1 of them, both ends included."""
    for k in range(count + 1):
        yield (first ** (1 / rho) + k / count * (last ** (1 / rho) - first ** (1 / rho))) ** rho
