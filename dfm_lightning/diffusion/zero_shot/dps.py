"""DPS: ancestral steps, and a step down the gradient of the measurement's error."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.samplers.evaluation import DrawNoise, Point
from dfm_lightning.diffusion.spacing import Spacing
from dfm_lightning.diffusion.zero_shot.base import Denoiser, LinearProblem, Rule, SteppingSolver, pixelwise
from dfm_lightning.diffusion.zero_shot.levels import DDPMLevels
from dfm_lightning.forward_models.linear import Ability
from dfm_lightning.ranges import check_at_least


class DPS(SteppingSolver):
    """Diffusion posterior sampling (Chung et al. 2023): guided by the gradient of ‖y − A D(x)‖.

    The norm is that of each image's own error, not of the batch's. σ_y is not used: the step size has to be tuned
    with it. Differentiates the denoiser; needs nothing but the operator (and its adjoint for the norm).

    Args:
        steps: number of steps and evaluations (paper: 1000).
        scale: step size ζ (paper: 0.3; for in-painting 0.5, for phase retrieval 1).
        step_follows_norm: divide the step by the operator's norm where that is above 1: the paper's operators have
            norms of about 1, and the gradient grows with the norm.
        spacing: see `ZeroShotSolver`; evenly from DDPM's last level to its first if none is given.
    """

    needs: ClassVar[frozenset[Ability]] = frozenset()

    def __init__(
        self,
        steps: int = 1000,
        scale: Number = 0.3,
        step_follows_norm: bool = True,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__(steps, spacing)
        check_at_least(0, scale=scale)
        self.scale = scale
        self.step_follows_norm = step_follows_norm

    def default_spacing(self) -> Spacing:
        """See `ZeroShotSolver.default_spacing`."""
        return DDPMLevels(to_the_end=True)

    def needed(self, problem: LinearProblem) -> frozenset[Ability]:
        """See `ZeroShotSolver.needed`."""
        return frozenset({"adjoint"}) if self.step_follows_norm else self.needs

    def rule(self, problem: LinearProblem) -> Rule:
        """See `SteppingSolver.rule`."""
        scale = torch.full_like(problem.noise, float(self.scale))
        if self.step_follows_norm:
            scale = scale / problem.operator.norm().to(scale).clamp(min=1)
        return _DPSRule(problem, scale)


class _DPSRule(Rule):
    def __init__(self, problem: LinearProblem, scale: Float[Tensor, " b"]) -> None:
        self.problem = problem
        self.scale = pixelwise(scale)

    def step(
        self, denoiser: Denoiser, x: Float[Tensor, "b c h w"], point: Point, u: float, draw_noise: DrawNoise
    ) -> Float[Tensor, "b c h w"]:
        """See `Rule.step`."""
        t = point.ratio
        with torch.enable_grad():
            state, estimate = denoiser.with_gradient(x, point)
            error = (self.problem.measurement - self.problem.operator.apply(estimate)).flatten(1)
            # Each image's own error: their sum has each one's gradient.
            (gradient,) = torch.autograd.grad(error.norm(dim=1).sum(), state)
        clean = estimate.detach()
        moved = clean + (u / t) ** 2 * (x - clean) - self.scale * ((1 + t**2) * (1 + u**2)) ** 0.5 * gradient
        return moved + (u / t) * max(t**2 - u**2, 0.0) ** 0.5 * draw_noise() if u > 0 else moved
