"""Samplers: from pure noise to a clean observation, given a function that estimates the clean one.

A sampler knows observations only; what signal they came from is the business of whoever gives it `denoise`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import NoiseProcess
from dfm_lightning.types import Level

Denoise = Callable[[Tensor, Level], Tensor]
DrawNoise = Callable[[], Tensor]


class SamplingStep(NamedTuple):
    """The state after one step: the observation at the next level, and the estimate of the clean one."""

    noisy: Float[Tensor, "b *o"]
    clean: Float[Tensor, "b *o"]


class Sampler(ABC):
    """Runs the reverse process."""

    steps: int

    @abstractmethod
    def sample(
        self, denoise: Denoise, noise: Float[Tensor, "b *o"], process: NoiseProcess, draw_noise: DrawNoise
    ) -> Iterator[SamplingStep]:
        """Yield each step from `noise` (standard normal) on; the last step's `noisy` is the sample.

        `draw_noise` gives fresh standard normal noise of the same shape to samplers that need it.
        """


def dynamic_threshold(clean: Float[Tensor, "b *o"], quantile: float) -> Float[Tensor, "b *o"]:
    """Clamp each element to the quantile of its absolute values, at least 1, and divide by it (Imagen, 2.3)."""
    bound = torch.quantile(clean.flatten(1).abs().float(), quantile, dim=1).clamp(min=1.0)
    bound = bound.view(-1, *[1] * (clean.ndim - 1)).to(clean.dtype)
    return clean.clamp(-bound, bound) / bound


class DDIM(Sampler):
    """Denoising diffusion implicit models (Song et al. 2021, eq. 12) on estimates of the clean observation.

    Args:
        steps: number of denoising steps; levels are spaced evenly.
        eta: 0 is deterministic, 1 adds as much fresh noise as the ancestral sampler.
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
    """

    def __init__(
        self, steps: int = 50, eta: float = 0.0, temperature: float = 1.0, threshold_quantile: float = 0.0
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must be within 0 and 1, got {eta}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        if not 0 <= threshold_quantile <= 1:
            raise ValueError(f"threshold_quantile must be within 0 and 1, got {threshold_quantile}")
        self.steps = steps
        self.eta = eta
        self.temperature = temperature
        self.threshold_quantile = threshold_quantile

    def levels(self, process: NoiseProcess) -> list[int]:
        """The levels visited, from T − 1 down to −1 (clean): steps + 1 of them."""
        if self.steps > process.levels:
            raise ValueError(f"{self.steps} sampling steps exceed the {process.levels} levels of the process")
        # In whole numbers: a rounded quotient that should be whole would be cut to the level below.
        return [step * process.levels // self.steps - 1 for step in range(self.steps, -1, -1)]

    def sample(
        self, denoise: Denoise, noise: Float[Tensor, "b *o"], process: NoiseProcess, draw_noise: DrawNoise
    ) -> Iterator[SamplingStep]:
        """See `Sampler.sample`."""
        noisy = noise * self.temperature
        levels = self.levels(process)
        for current, following in pairwise(levels):
            level = torch.full((len(noise),), current, device=noise.device)
            clean = denoise(noisy, level)
            if self.threshold_quantile > 0:
                clean = dynamic_threshold(clean, self.threshold_quantile)
            noisy = self._step(noisy, clean, level, torch.full_like(level, following), process, draw_noise)
            yield SamplingStep(noisy, clean)

    def _step(
        self,
        noisy: Tensor,
        clean: Tensor,
        level: Level,
        following: Level,
        process: NoiseProcess,
        draw_noise: DrawNoise,
    ) -> Tensor:
        alpha, alpha_next = process.alpha_bar(level, noisy), process.alpha_bar(following, noisy)
        noise = process.noise_from_clean(noisy, clean, level)
        sigma = self.eta * ((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next)).sqrt()
        direction = (1 - alpha_next - sigma**2).clamp(min=0).sqrt() * noise
        result = alpha_next.sqrt() * clean + direction
        return result + sigma * draw_noise() if self.eta > 0 else result
