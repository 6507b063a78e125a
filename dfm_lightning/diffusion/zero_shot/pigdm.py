"""ΠGDM: pseudo-inverse guidance through the denoiser's derivative."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.samplers.evaluation import DrawNoise, Point
from dfm_lightning.diffusion.spacing import Spacing
from dfm_lightning.diffusion.zero_shot.base import Denoiser, LinearProblem, Rule, SteppingSolver, column, pixelwise
from dfm_lightning.forward_models.linear import Ability, conjugate_gradients
from dfm_lightning.ranges import check_within


class PiGDM(SteppingSolver):
    """Pseudoinverse-guided diffusion models (Song et al. 2023): a Gaussian around the denoiser's estimate.

    Its variance is r² = t²/(1 + t²); the guidance is Jᵀ A†(y − A x₀), and with noise in the measurements
    r² Jᵀ Aᵀ(r² A Aᵀ + σ_y²)⁻¹(y − A x₀), by the singular values where the operator has them, else by conjugate
    gradients. Needs the pseudo-inverse, where there is noise the adjoint too; differentiates the denoiser.

    Args:
        steps: number of steps and evaluations (paper: 100).
        eta: share of fresh noise (paper: 1).
        noise_aware: whether σ_y is used; without it, as in released code, noise is taken for signal.
        spacing: see `ZeroShotSolver`.
    """

    needs: ClassVar[frozenset[Ability]] = frozenset({"pseudo-inverse"})

    def __init__(
        self, steps: int = 100, eta: Number = 1.0, noise_aware: bool = True, spacing: Spacing | None = None
    ) -> None:
        super().__init__(steps, spacing)
        check_within(0, 1, eta=eta)
        self.eta = eta
        self.noise_aware = noise_aware

    def needed(self, problem: LinearProblem) -> frozenset[Ability]:
        """See `ZeroShotSolver.needed`."""
        return self.needs | {"adjoint"} if self._is_noisy(problem) else self.needs

    def rule(self, problem: LinearProblem) -> Rule:
        """See `SteppingSolver.rule`."""
        return (_NoisyPiGDMRule if self._is_noisy(problem) else _PiGDMRule)(problem, self.eta)

    def _is_noisy(self, problem: LinearProblem) -> bool:
        return self.noise_aware and bool((problem.noise > 0).any())


class _PiGDMRule(Rule):
    def __init__(self, problem: LinearProblem, eta: float) -> None:
        self.problem = problem
        self.eta = eta

    def start(self, noise: Float[Tensor, "b c h w"], t: float) -> Float[Tensor, "b c h w"]:
        """See `Rule.start`: around A†y."""
        return self.problem.operator.pseudo_inverse(self.problem.measurement) + t * noise

    def step(
        self, denoiser: Denoiser, x: Float[Tensor, "b c h w"], point: Point, u: float, draw_noise: DrawNoise
    ) -> Float[Tensor, "b c h w"]:
        """See `Rule.step`."""
        t = point.ratio
        with torch.enable_grad():
            state, estimate = denoiser.with_gradient(x, point)
            clean = estimate.detach()
            residual = self.problem.measurement - self.problem.operator.apply(clean)
            pulled = self.pulled(residual.detach(), t)
            (guidance,) = torch.autograd.grad((estimate * pulled).sum(), state)
        fresh = self.eta * (u / t) * max(t**2 - u**2, 0.0) ** 0.5
        kept = max(u**2 - fresh**2, 0.0) ** 0.5
        return clean + fresh * draw_noise() + kept * (x - clean) / t + guidance

    def pulled(self, residual: Float[Tensor, "b p q r"], t: float) -> Float[Tensor, "b c h w"]:
        """Return the residual's (y − A x₀) correction of x₀."""
        return self.problem.operator.pseudo_inverse(residual)


class _NoisyPiGDMRule(_PiGDMRule):
    def __init__(self, problem: LinearProblem, eta: float) -> None:
        super().__init__(problem, eta)
        has = "singular values" in problem.operator.abilities
        self.basis = problem.operator.decompose() if has else None

    def pulled(self, residual: Float[Tensor, "b p q r"], t: float) -> Float[Tensor, "b c h w"]:
        """See `_PiGDMRule.pulled`."""
        trust, operator = t**2 / (1 + t**2), self.problem.operator
        if self.basis is not None:
            values = self.basis.values.to(residual)
            power = trust * values.square() + column(self.problem.noise).square()
            scale = torch.where(values > 0, trust * values / power, 0.0)
            return self.basis.from_right(scale * self.basis.to_left(residual))
        variance = pixelwise(self.problem.noise).square()
        solved = conjugate_gradients(
            lambda y: trust * operator.apply(operator.adjoint(y)) + variance * y, residual, tolerance=1e-6
        )
        return trust * operator.adjoint(solved)
