"""Scores and diversity of several samples of one scene."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

# The standard deviation of normally distributed values, divided by the mean distance between two of them.
_NORMAL = math.sqrt(math.pi) / 2

LOWER_IS_BETTER = frozenset({"lpips"})


class SampleScores(NamedTuple):
    """A score of several samples: that of the best one, and the mean."""

    best: float
    mean: float


def best_and_mean(metric: str, scores: Float[Tensor, "samples views"]) -> SampleScores:
    """Score samples, each averaged over its views first, so that the best one is one whole sample."""
    each = scores.double().mean(dim=1)
    best = each.min() if metric in LOWER_IS_BETTER else each.max()
    return SampleScores(float(best), float(each.mean()))


def spread(samples: Float[Tensor, "samples *o"]) -> Float[Tensor, "*o"]:
    """Measure how much samples in [−1, 1] differ, pixel by pixel, on the scale of [0, 1].

    It is √π/2 times Gini's mean difference, the mean distance between two samples: the standard deviation, if
    values are normally distributed. For any distribution its expectation is the same for any number of samples
    from two up, so that values can be compared across numbers. (A standard deviation cannot: for two samples it is
    a fifth too small on average.)
    """
    _check_number(samples)
    ordered = samples.clamp(-1, 1).sort(dim=0).values
    count = len(ordered)
    # In the sum over all pairs, a value is added once for each one below it, and subtracted for each one above.
    rank = torch.arange(1 - count, count, 2, device=ordered.device, dtype=ordered.dtype)
    difference = 2 * torch.tensordot(rank, ordered, dims=1) / (count * (count - 1))
    return _NORMAL * difference / 2


def vector_spread(samples: Float[Tensor, "samples c *o"]) -> Float[Tensor, "*o"]:
    """Compute the `spread` of vectors (components in the second dimension), unclamped and in their own unit.

    It is √π/2 times the mean distance between two samples.
    """
    _check_number(samples)
    count = len(samples)
    # Shift by shift: all pairs at once would take too much memory.
    distances = torch.stack([(samples[s:] - samples[:-s]).norm(dim=1).sum(dim=0) for s in range(1, count)])
    return _NORMAL * 2 * distances.sum(dim=0) / (count * (count - 1))


def _check_number(samples: Tensor) -> None:
    if len(samples) < 2:
        raise ValueError(f"the spread needs at least 2 samples, got {len(samples)}")


def energy_score(samples: Float[Tensor, "samples *o"], truth: Float[Tensor, "*o"]) -> float:
    """Compute E‖X − y‖ − ½ E‖X − X'‖ for samples X and the true y, with ‖·‖ the root mean square; lower is better.

    On average over many truths it is lowest for samples of the true distribution, neither too alike nor too
    different (Gneiting and Raftery 2007, section 4.3). It is unbiased for any number of samples; for one it is the
    error.
    """
    draws, true = samples.flatten(1).double(), truth.flatten().double()
    count, scale = len(draws), true.numel() ** 0.5
    error = (draws - true).norm(dim=1).mean() / scale
    if count == 1:
        return float(error)
    return float(error - 0.5 * torch.cdist(draws, draws).sum() / (count * (count - 1)) / scale)
