"""How several samples of one scene score, and how much they differ."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

LOWER_IS_BETTER = frozenset({"lpips"})


class SampleScores(NamedTuple):
    """A score of several samples: of the best one, and on average."""

    best: float
    mean: float


def best_and_mean(metric: str, scores: Float[Tensor, "samples views"]) -> SampleScores:
    """The scores of samples, each averaged over its views first, so that the best one is one whole sample."""
    each = scores.double().mean(dim=1)
    best = each.min() if metric in LOWER_IS_BETTER else each.max()
    return SampleScores(float(best), float(each.mean()))


def spread(samples: Float[Tensor, "samples *o"]) -> Float[Tensor, "*o"]:
    """Standard deviation between samples in [−1, 1], pixel by pixel, on the scale of [0, 1].

    The unbiased estimate (divisor n − 1): it can be compared between numbers of samples, and needs two.
    """
    if len(samples) < 2:
        raise ValueError(f"the spread needs at least 2 samples, got {len(samples)}")
    return samples.clamp(-1, 1).std(dim=0) / 2


def energy_score(samples: Float[Tensor, "samples *o"], truth: Float[Tensor, "*o"]) -> float:
    """E‖X − y‖ − ½ E‖X − X'‖ for samples X and the true y, with ‖·‖ the root of the mean square; lower is better.

    On average over many truths it is lowest for samples of the true distribution, neither too alike nor too
    different (Gneiting and Raftery 2007, section 4.3). Unbiased for any number of samples; of one it is the error.
    """
    draws, true = samples.flatten(1).double(), truth.flatten().double()
    count, scale = len(draws), true.numel() ** 0.5
    error = (draws - true).norm(dim=1).mean() / scale
    if count == 1:
        return float(error)
    return float(error - 0.5 * torch.cdist(draws, draws).sum() / (count * (count - 1)) / scale)
