"""Confidence intervals by bootstrap over scenes, with a fixed seed."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000
LEVEL = 95
_PERCENTILES = ((100 - LEVEL) / 2, (100 + LEVEL) / 2)


class Estimate(NamedTuple):
    """A mean over scenes with its 95% interval; without one (`low` and `high` are None) from a single scene."""

    mean: float
    low: float | None
    high: float | None
    scenes: int

    @property
    def excludes_zero(self) -> bool:
        """Tell whether the interval has one sign."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def mean_of(values: list[float]) -> Estimate:
    """Average a score over scenes, with percentiles of the means of scenes drawn with replacement."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None, None, len(values))
    return Estimate(mean, *_interval(_resampled(np.asarray(values), 0)), len(values))


def paired_difference(first: list[float], second: list[float]) -> Estimate:
    """Compute the mean difference of two runs' scores of the same scenes, in the same order."""
    return mean_of([a - b for a, b in zip(first, second, strict=True)])


def unpaired_difference(first: list[float], second: list[float]) -> Estimate:
    """Compute the difference of two runs' means over different scenes, each resampled by itself."""
    mean, fewest = float(np.mean(first) - np.mean(second)), min(len(first), len(second))
    if fewest < 2:
        return Estimate(mean, None, None, fewest)
    resampled = _resampled(np.asarray(first), 0) - _resampled(np.asarray(second), 1)
    return Estimate(mean, *_interval(resampled), fewest)


def _resampled(values: Float[np.ndarray, " n"], seed: int) -> Float[np.ndarray, " resamples"]:
    return _shares(len(values), seed) @ values


def _interval(means: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    low, high = np.percentile(means, _PERCENTILES)
    return float(low), float(high)


@lru_cache(maxsize=8)
def _shares(count: int, seed: int) -> Float[np.ndarray, "resamples n"]:
    """Return the weight of each of this many scenes in each resample: the same for every score and run."""
    chosen = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    offsets = np.arange(RESAMPLES)[:, None] * count
    counts = np.bincount((chosen + offsets).ravel(), minlength=RESAMPLES * count)
    return counts.reshape(RESAMPLES, count) / count
