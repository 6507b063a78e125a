"""Evaluations of the denoiser: the function that samplers call, where they call it, and what they get."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import NoiseProcess, Number
from dfm_lightning.types import Level


class Estimate(NamedTuple):
    """An estimate of the clean observation, and what it is an observation of (anything; None if unknown)."""

    clean: Float[Tensor, "b *o"]
    source: Any = None


class SamplingStep(NamedTuple):
    """The state after one step: the observation at the next level, and the estimate that the step began with."""

    noisy: Float[Tensor, "b *o"]
    clean: Float[Tensor, "b *o"]
    source: Any = None


# A function that has no source to give may return the clean observation alone.
Denoise = Callable[[Tensor, Level], Estimate | Tensor]
DrawNoise = Callable[[], Tensor]


class Point(NamedTuple):
    """A level and its rates: x = `signal_rate` · clean + `noise_rate` · noise."""

    level: Number
    signal_rate: float
    noise_rate: float

    @property
    def is_clean(self) -> bool:
        """Tell whether this is the clean observation itself."""
        return self.noise_rate == 0

    @property
    def log_ratio(self) -> float:
        """Return λ = ln(α/σ)."""
        return math.log(self.signal_rate / self.noise_rate) if self.noise_rate > 0 else math.inf

    @property
    def ratio(self) -> float:
        """Return ρ = σ/α."""
        return self.noise_rate / self.signal_rate


class Evaluated(NamedTuple):
    """An evaluation in a sampler's history: where it was, the observation there, and its clean estimate."""

    point: Point
    noisy: Float[Tensor, "b *o"]
    clean: Float[Tensor, "b *o"]

    @property
    def noise(self) -> Float[Tensor, "b *o"]:
        """Return the noise ε that leads from the clean estimate to the noisy observation."""
        return (self.noisy - self.point.signal_rate * self.clean) / self.point.noise_rate


class Evaluator:
    """Evaluates the denoiser at points of a process, and thresholds its estimates.

    Args:
        denoise: see `Sampler.sample`.
        process: the noising that is reversed.
        threshold_quantile: see `Sampler`.
    """

    def __init__(self, denoise: Denoise, process: NoiseProcess, threshold_quantile: Number) -> None:
        self.denoise = denoise
        self.process = process
        self.threshold_quantile = threshold_quantile

    def __call__(self, noisy: Float[Tensor, "b *o"], point: Point | list[Point]) -> Estimate:
        """Estimate the clean observation at a point, or at one for each element of the batch."""
        levels = [each.level for each in (point if isinstance(point, list) else [point] * len(noisy))]
        # Not the default precision, which may be half of it.
        dtype = torch.long if self.process.integer_levels else torch.float32
        level = torch.tensor(levels, dtype=dtype, device=noisy.device)
        found = self.denoise(*self.process.denoiser_input(noisy, level))
        clean, source = found if isinstance(found, Estimate) else Estimate(found)
        if self.threshold_quantile > 0:
            clean = dynamic_threshold(clean, self.threshold_quantile)
        return Estimate(clean.to(torch.promote_types(clean.dtype, noisy.dtype)), source)

    def point(self, level: Number) -> Point:
        """Return a level of the process with its rates."""
        return Point(level, *self.process.exact_rates(level))

    def midpoint(self, start: Point, end: Point) -> Point:
        """Return the point in the middle between two, by level; integer levels are rounded down."""
        middle = (start.level + end.level) / 2
        return self.point(math.floor(middle) if self.process.integer_levels else middle)


def dynamic_threshold(clean: Float[Tensor, "b *o"], quantile: Number) -> Float[Tensor, "b *o"]:
    """Clamp each element to the quantile of its absolute values, at least 1, and divide by it (Imagen, 2.3)."""
    bound = torch.quantile(clean.flatten(1).abs().float(), quantile, dim=1).clamp(min=1.0)
    bound = bound.view(-1, *[1] * (clean.ndim - 1)).to(clean.dtype)
    return clean.clamp(-bound, bound) / bound
