"""DDS: decomposed diffusion sampling: a few conjugate-gradient steps from the denoiser's estimate."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.spacing import Spacing
from dfm_lightning.diffusion.zero_shot.base import LinearProblem, Rule, Step, SteppingSolver, pixelwise
from dfm_lightning.forward_models.linear import Ability, conjugate_gradients
from dfm_lightning.ranges import check_at_least, check_within


class DDS(SteppingSolver):
    """Decomposed diffusion sampling (Chung et al. 2024): a few conjugate-gradient steps from x₀, then noise anew.

    They solve AᵀA x = Aᵀy where there is no noise in the measurements, else (I + γ AᵀA) x = x₀ + γ Aᵀy. γ does not
    depend on σ_y: it is to be tuned with it, and with the operator's norm. Needs the adjoint.

    Args:
        steps: number of steps and evaluations (paper: 50).
        eta: share of fresh noise (paper: 0.85).
        gamma: γ, the trust in measurements with noise (paper: 1).
        iterations: of conjugate gradients in each step (paper: 5).
        spacing: see `ZeroShotSolver`.
    """

    needs: ClassVar[frozenset[Ability]] = frozenset({"adjoint"})

    def __init__(
        self,
        steps: int = 50,
        eta: Number = 0.85,
        gamma: Number = 1.0,
        iterations: int = 5,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__(steps, spacing)
        check_within(0, 1, eta=eta)
        check_at_least(0, gamma=gamma)
        check_at_least(1, iterations=iterations)
        self.eta = eta
        self.gamma = gamma
        self.iterations = iterations

    def rule(self, problem: LinearProblem) -> Rule:
        """See `SteppingSolver.rule`."""
        return _DDSRule(problem, self)


class _DDSRule(Rule):
    def __init__(self, problem: LinearProblem, solver: DDS) -> None:
        self.operator = problem.operator
        self.pull = solver.gamma * problem.operator.adjoint(problem.measurement)
        # Whether an estimate counts beside the measurement: 1 or 0.
        self.counts = pixelwise((problem.noise > 0).to(problem.noise))
        self.solver = solver

    def move(self, step: Step, noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """See `Rule.move`."""
        solver, operator = self.solver, self.operator
        clean = conjugate_gradients(
            lambda x: self.counts * x + solver.gamma * operator.adjoint(operator.apply(x)),
            self.counts * step.clean + self.pull,
            step.clean,
            solver.iterations,
        )
        mixed = solver.eta * noise + (1 - solver.eta**2) ** 0.5 * step.epsilon
        return clean + step.u * mixed
