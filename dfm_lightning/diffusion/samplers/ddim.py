"""DDIM and, with fresh noise, DDPM's ancestral sampling."""

import math

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.samplers.base import MultistepSampler
from dfm_lightning.diffusion.samplers.evaluation import DrawNoise, Evaluated, Point
from dfm_lightning.diffusion.spacing import Spacing
from dfm_lightning.ranges import check_within


class DDIM(MultistepSampler):
    """Denoising diffusion implicit models (Song et al. 2021, eq. 12) on estimates of the clean observation.

    One evaluation a step; first order, the same step as DPM-Solver-1.

    Args:
        steps: number of steps, and of evaluations.
        eta: 0 is deterministic, 1 adds as much fresh noise as the ancestral sampler (DDPM).
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
        spacing: which levels are visited; `Trailing` if none is given.
    """

    def __init__(
        self,
        steps: int = 50,
        eta: Number = 0.0,
        temperature: Number = 1.0,
        threshold_quantile: Number = 0.0,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__(steps, temperature, threshold_quantile, spacing)
        check_within(0, 1, eta=eta)
        self.eta = eta

    def step(
        self, history: list[Evaluated], following: Point, steps_left: int, draw_noise: DrawNoise
    ) -> Float[Tensor, "b *o"]:
        """See `MultistepSampler.step`."""
        (point, noisy, clean), *_ = history
        # Fresh noise replaces a part of the noise in the observation: σ_t² = kept² + fresh².
        shrinkage = following.ratio / point.ratio
        fresh = following.noise_rate * self.eta * math.sqrt(max(0.0, 1 - shrinkage**2))
        kept = following.noise_rate * math.sqrt(1 - self.eta**2 + (self.eta * shrinkage) ** 2)
        state = kept / point.noise_rate
        result = state * noisy + (following.signal_rate - state * point.signal_rate) * clean
        return result + fresh * draw_noise() if self.eta > 0 else result
