"""DDRM: denoising diffusion restoration in the coordinates of the singular value decomposition."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.spacing import Spacing
from dfm_lightning.diffusion.zero_shot.base import LinearProblem, Rule, Step, SteppingSolver, column
from dfm_lightning.forward_models.linear import Ability
from dfm_lightning.ranges import check_within


class DDRM(SteppingSolver):
    """Denoising diffusion restoration models (Kawar et al. 2022): each singular direction is denoised
    independently.

    An unseen direction follows the prior; a seen one whose noise σ_y/s is above the level is drawn towards the
    measurement; any other follows the measurement. Needs the singular values.

    Args:
        steps: number of steps and evaluations (paper: 20).
        eta: share of fresh noise in the unseen directions, and in those with much noise (paper: 0.85).
        spacing: see `ZeroShotSolver`.
    """

    needs: ClassVar[frozenset[Ability]] = frozenset({"singular values"})

    def __init__(self, steps: int = 20, eta: Number = 0.85, spacing: Spacing | None = None) -> None:
        super().__init__(steps, spacing)
        check_within(0, 1, eta=eta)
        self.eta = eta

    def rule(self, problem: LinearProblem) -> Rule:
        """See `SteppingSolver.rule`."""
        return _DDRMRule(problem, self.eta)


class _DDRMRule(Rule):
    def __init__(self, problem: LinearProblem, eta: float) -> None:
        self.basis = problem.operator.decompose()
        self.eta = eta
        self.values = self.basis.values.to(problem.measurement)
        self.noise = column(problem.noise)
        self.seen = self.values > 0
        inverse = torch.where(self.seen, 1 / self.values, 0.0)
        self.measured = self.basis.to_left(problem.measurement) * inverse
        # σ_y/s: the noise of what is measured, in the image's units.
        self.deviation = self.noise * inverse

    def start(self, noise: Float[Tensor, "b c h w"], t: float) -> Float[Tensor, "b c h w"]:
        """See `Rule.start`: around what is measured, where that has less noise."""
        known = self.values * t > self.noise
        spread = (t**2 - torch.where(known, self.deviation, 0.0).square()).clamp(min=0).sqrt()
        mean = torch.where(known, self.measured, 0.0)
        return self.basis.from_right(mean + spread * self.basis.to_right(noise))

    def move(self, step: Step, noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """See `Rule.move`."""
        u, eta, kept = step.u, self.eta, (1 - self.eta**2) ** 0.5
        clean, epsilon, fresh = (self.basis.to_right(part) for part in (step.clean, step.epsilon, noise))
        unseen = clean + u * (kept * epsilon + eta * fresh)
        towards = (self.measured - clean) / self.deviation.clamp(min=torch.finfo(clean.dtype).tiny)
        noisy = clean + u * (kept * towards + eta * fresh)
        exact = self.measured + (u**2 - self.deviation.square()).clamp(min=0).sqrt() * fresh
        following = torch.where(self.seen & (self.values * u < self.noise), noisy, unseen)
        return self.basis.from_right(torch.where(self.seen & (self.values * u > self.noise), exact, following))
