"""RED-diff: one image per measurement by stochastic optimisation, the denoiser being its regulariser."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.samplers.evaluation import DrawNoise
from dfm_lightning.diffusion.spacing import Spacing
from dfm_lightning.diffusion.zero_shot.base import Denoiser, LinearProblem, ZeroShotSolver, pixelwise
from dfm_lightning.forward_models.linear import Ability
from dfm_lightning.ranges import check_above, check_at_least

_BETAS = (0.9, 0.99)


class REDDiff(ZeroShotSolver):
    """Regularisation by denoising diffusion (Mardani et al. 2024): Adam on μ, from A†y on.

    The gradient is λ t (ε − z)/n + Aᵀ(A μ − y)/m for n numbers in an image and m in a measurement. A point
    estimate: several starts give nearly the same image. σ_y is not used. Needs the pseudo-inverse and the
    adjoint.

    Args:
        steps: number of steps and evaluations (paper: 1000; released settings: 100 with a rate of 0.5).
        learning_rate: Adam's (paper: 0.1).
        weight: λ, of the denoiser's term (paper: 0.25).
        adam_epsilon: what Adam adds to a gradient's size (10⁻⁸). Released code averages gradients over the batch,
            which is as if this grew with the batch.
        spacing: see `ZeroShotSolver`.
    """

    needs: ClassVar[frozenset[Ability]] = frozenset({"adjoint", "pseudo-inverse"})

    def __init__(
        self,
        steps: int = 1000,
        learning_rate: Number = 0.1,
        weight: Number = 0.25,
        adam_epsilon: Number = 1e-8,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__(steps, spacing)
        check_above(0, learning_rate=learning_rate, adam_epsilon=adam_epsilon)
        check_at_least(0, weight=weight)
        self.learning_rate = learning_rate
        self.weight = weight
        self.adam_epsilon = adam_epsilon

    def run(
        self,
        denoiser: Denoiser,
        problem: LinearProblem,
        noise: Float[Tensor, "b c h w"],
        draw_noise: DrawNoise,
    ) -> Float[Tensor, "b c h w"]:
        """See `ZeroShotSolver.run`; the first noise is that of the first step."""
        operator = problem.operator
        image = operator.pseudo_inverse(problem.measurement)
        numbers, measured = noise[0].numel(), pixelwise(operator.measured_numbers().to(noise).clamp(min=1))
        mean, square = torch.zeros_like(image), torch.zeros_like(image)
        for count, point in enumerate(self.points(denoiser)[:-1], start=1):
            drawn, t = noise if count == 1 else draw_noise(), point.ratio
            noisy = image + t * drawn
            epsilon = (noisy - denoiser(noisy, point)) / t
            misfit = operator.adjoint(operator.apply(image) - problem.measurement) / measured
            gradient = self.weight * t * (epsilon - drawn) / numbers + misfit
            mean = _BETAS[0] * mean + (1 - _BETAS[0]) * gradient
            square = _BETAS[1] * square + (1 - _BETAS[1]) * gradient.square()
            rate = (square / (1 - _BETAS[1] ** count)).sqrt() + self.adam_epsilon
            image = image - self.learning_rate * mean / (1 - _BETAS[0] ** count) / rate
        return image
