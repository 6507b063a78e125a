"""DAPS, decoupled annealing: the probability flow to an image, Langevin steps to the measurement, fresh noise."""

from itertools import pairwise
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.samplers.evaluation import DrawNoise
from dfm_lightning.diffusion.zero_shot.base import (
    Denoiser,
    LinearProblem,
    ZeroShotSolver,
    geometric_grid,
    pixelwise,
)
from dfm_lightning.forward_models.linear import Ability
from dfm_lightning.ranges import check_above, check_at_least, check_within


class DAPS(ZeroShotSolver):
    """Decoupled annealing posterior sampling (Zhang et al. 2025).

    At each noise level: the probability flow to almost clean (`ode_steps` of Euler's), Langevin steps on
    exp(−‖Av − y‖²/τ² − ‖v − x̂‖²/(2t²)), and noise of the next level. As in the released code τ is not halved, and
    stands for a noise of τ/√2 in the measurements; σ_y is not used. Stable only where the Langevin step times
    ‖A‖²/τ² is at most 1: so it shrinks with the norm. Needs the adjoint, and applies it `steps` ·
    `langevin_steps` times.

    Args:
        steps: number of noise levels (paper: 200).
        ode_steps: evaluations at each of them (paper: 5).
        langevin_steps: Langevin steps at each of them (paper: 100).
        learning_rate: the first level's Langevin step (paper: 10⁻⁴).
        least_rate: the last one's, as a share of the first's; in between they fall evenly (paper: 0.01).
        tau: τ, in units of the measurements (paper: 0.01).
        noises: noise of the first and of the last level (paper: 100 and 0.1).
        ode_end: noise at which the probability flow ends (paper: 0.01).
        step_follows_norm: divide the Langevin step by ‖A‖² where the norm is above 1.
    """

    needs: ClassVar[frozenset[Ability]] = frozenset({"adjoint"})

    def __init__(
        self,
        steps: int = 200,
        ode_steps: int = 5,
        langevin_steps: int = 100,
        learning_rate: Number = 1e-4,
        least_rate: Number = 0.01,
        tau: Number = 0.01,
        noises: tuple[Number, Number] = (100.0, 0.1),
        ode_end: Number = 0.01,
        step_follows_norm: bool = True,
    ) -> None:
        super().__init__(steps)
        check_at_least(1, ode_steps=ode_steps, langevin_steps=langevin_steps)
        check_above(0, learning_rate=learning_rate, tau=tau, noises=noises, ode_end=ode_end)
        check_within(0, 1, least_rate=least_rate)
        if not noises[0] > noises[1] > ode_end:
            raise ValueError(f"noises must fall, and end above ode_end {ode_end}, got {list(noises)}")
        self.ode_steps = ode_steps
        self.langevin_steps = langevin_steps
        self.learning_rate = learning_rate
        self.least_rate = least_rate
        self.tau = tau
        self.noises = noises
        self.ode_end = ode_end
        self.step_follows_norm = step_follows_norm

    @property
    def evaluations(self) -> int:
        """See `ZeroShotSolver.evaluations`."""
        return self.steps * self.ode_steps

    def run(
        self,
        denoiser: Denoiser,
        problem: LinearProblem,
        noise: Float[Tensor, "b c h w"],
        draw_noise: DrawNoise,
    ) -> Float[Tensor, "b c h w"]:
        """See `ZeroShotSolver.run`."""
        operator = problem.operator
        rate = pixelwise(problem.noise.new_full(problem.noise.shape, float(self.learning_rate)))
        if self.step_follows_norm:
            rate = rate / pixelwise(operator.norm().to(rate)).clamp(min=1).square()
        levels = list(geometric_grid(float(self.noises[0]), float(self.noises[1]), self.steps))
        x = noise * denoiser.near(levels[0]).ratio
        for number, level in enumerate(levels[:-1]):
            level = denoiser.near(level).ratio
            start = self._flow(denoiser, x, level)
            step = rate * (1 + number / (self.steps + 1) * (float(self.least_rate) - 1))
            image = start
            for _ in range(self.langevin_steps):
                pull = operator.adjoint(operator.apply(image) - problem.measurement)
                drift = -2 * pull / self.tau**2 + (start - image) / level**2
                image = image + step * drift + (2 * step).sqrt() * draw_noise()
            following = denoiser.near(levels[number + 1]).ratio if number + 1 < self.steps else 0.0
            x = image + following * draw_noise()
        return x

    def _flow(self, denoiser: Denoiser, x: Float[Tensor, "b c h w"], level: float) -> Float[Tensor, "b c h w"]:
        points = [denoiser.near(noise) for noise in geometric_grid(level, float(self.ode_end), self.ode_steps)]
        for current, following in pairwise(points):
            x = x + (following.ratio - current.ratio) * (x - denoiser(x, current)) / current.ratio
        return x
