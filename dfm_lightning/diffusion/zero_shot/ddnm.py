"""DDNM and DDNM+: the measured part replaces the denoiser's estimate of it, as far as the noise allows."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.samplers.evaluation import DrawNoise
from dfm_lightning.diffusion.spacing import Spacing
from dfm_lightning.diffusion.zero_shot.base import Denoiser, LinearProblem, Rule, Step, SteppingSolver, column
from dfm_lightning.forward_models.linear import Ability
from dfm_lightning.ranges import check_at_least, check_within


class DDNM(SteppingSolver):
    """The denoising diffusion null-space model (Wang et al. 2023): x₀ − A†(A x₀ − y), then noise anew.

    With noise in the measurements, DDNM+: the correction is scaled, and less noise added, direction by direction.
    Needs the pseudo-inverse; DDNM+ the singular values too.

    With time travel, after every `travel_length` steps the last estimate is noised again to the level before them,
    and the steps are repeated (paper, algorithm 2). As in the released code, that level's noise is added to the
    denoiser's estimate.

    Args:
        steps: number of steps, and of evaluations without time travel (paper: 100).
        eta: share of fresh noise (paper: 0.85).
        plus: whether DDNM+ solves problems with noise; without it their noise is taken for signal.
        travel_length: steps between returns (paper: 1, or 10).
        travel_repeat: how often these steps are made; 1 is no time travel.
        spacing: see `ZeroShotSolver`.
    """

    needs: ClassVar[frozenset[Ability]] = frozenset({"pseudo-inverse"})

    def __init__(
        self,
        steps: int = 100,
        eta: Number = 0.85,
        plus: bool = True,
        travel_length: int = 1,
        travel_repeat: int = 1,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__(steps, spacing)
        check_within(0, 1, eta=eta)
        check_at_least(1, travel_length=travel_length, travel_repeat=travel_repeat)
        self.eta = eta
        self.plus = plus
        self.travel_length = travel_length
        self.travel_repeat = travel_repeat

    @property
    def evaluations(self) -> int:
        """See `ZeroShotSolver.evaluations`."""
        return len(self._moves(self.steps))

    def needed(self, problem: LinearProblem) -> frozenset[Ability]:
        """See `ZeroShotSolver.needed`."""
        return self.needs | {"singular values"} if self._is_noisy(problem) else self.needs

    def run(
        self,
        denoiser: Denoiser,
        problem: LinearProblem,
        noise: Float[Tensor, "b c h w"],
        draw_noise: DrawNoise,
    ) -> Float[Tensor, "b c h w"]:
        """See `ZeroShotSolver.run`."""
        points, rule = self.points(denoiser), self.rule(problem)
        x, clean, reached = rule.start(noise, points[0].ratio), noise, 0
        for number in self._moves(len(points) - 1):
            point, following = points[number], points[number + 1]
            for passed in reversed(range(number, reached)):
                # (Each level passed on the way back has a noise of its own; the last one counts.)
                x = clean + points[passed].ratio * draw_noise()
            clean = denoiser(x, point)
            u = 0.0 if following.is_clean else following.ratio
            x, reached = rule.move(Step(x, clean, point.ratio, u), draw_noise()), number + 1
        return x

    def _moves(self, steps: int) -> list[int]:
        """Return the levels that are left for the next one, in order, the noisiest being 0.

        There are fewer than asked for where the process has fewer (see `Spacing.levels`).
        """
        moves: list[int] = []
        for reached in range(steps):
            # Returns start from levels whose number, counted from the cleanest, is a multiple of the length.
            if reached >= self.travel_length and (steps - 1 - reached) % self.travel_length == 0:
                moves += list(range(reached - self.travel_length, reached)) * (self.travel_repeat - 1)
            moves.append(reached)
        return moves

    def rule(self, problem: LinearProblem) -> Rule:
        """See `SteppingSolver.rule`."""
        return _DDNMPlusRule(problem, self.eta) if self._is_noisy(problem) else _DDNMRule(problem, self.eta)

    def _is_noisy(self, problem: LinearProblem) -> bool:
        return self.plus and bool((problem.noise > 0).any())


class _DDNMRule(Rule):
    def __init__(self, problem: LinearProblem, eta: float) -> None:
        self.problem = problem
        self.eta = eta

    def correction(self, clean: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return A†(A x₀ − y)."""
        operator = self.problem.operator
        return operator.pseudo_inverse(operator.apply(clean) - self.problem.measurement)

    def move(self, step: Step, noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """See `Rule.move`."""
        mixed = self.eta * noise + (1 - self.eta**2) ** 0.5 * step.epsilon
        return step.clean - self.correction(step.clean) + step.u * mixed


class _DDNMPlusRule(_DDNMRule):
    def __init__(self, problem: LinearProblem, eta: float) -> None:
        super().__init__(problem, eta)
        self.basis = problem.operator.decompose()
        self.values = self.basis.values.to(problem.measurement)
        self.noise = column(problem.noise)

    def move(self, step: Step, noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """See `Rule.move`."""
        u, kept = step.u, (1 - self.eta**2) ** 0.5
        noisy_problem = self.noise > 0
        seen = (self.values > 0) & noisy_problem
        below = seen & (self.values * u < self.noise)
        above = seen & (self.values * u > self.noise)
        tiny = torch.finfo(self.values.dtype).tiny
        deviation = self.noise / self.values.clamp(min=tiny)
        scale = torch.where(below, self.values * u * kept / self.noise.clamp(min=tiny), 1.0)
        fresh = torch.where(above, (u**2 - deviation.square()).clamp(min=0).sqrt(), u * self.eta)
        old = torch.where(below | above, 0.0, u * kept)
        correction = self.basis.to_right(self.correction(step.clean)) * scale
        moved = fresh * self.basis.to_right(noise) + old * self.basis.to_right(step.epsilon) - correction
        return step.clean + self.basis.from_right(moved)
