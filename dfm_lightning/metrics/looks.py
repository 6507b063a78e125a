"""Find the look of a sampled scene's hidden part among known ones, and how often each is sampled.

Synthetic scenes hide an attribute (the colour of an object's back, or of the walls behind a door) that is drawn
from a known distribution, independently of everything the context shows. Samples should follow that distribution.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

UNDECIDED = -1
# Colours darker than this (length of the vector in [0, 1]³) have no meaningful hue.
_DARK = 0.1
_RESAMPLES = 2000


class SampledLooks(NamedTuple):
    """The look of each sample, `UNDECIDED` if it has none, and the share of the pixels that show it."""

    look: Int[Tensor, " s"]
    purity: Float[Tensor, " s"]


class LookShare(NamedTuple):
    """The share of samples with one look, with a 95% interval, and the look's probability."""

    share: float
    low: float
    high: float
    probability: float


class LookDistribution(NamedTuple):
    """The distribution of sampled looks, with 95% intervals.

    `total_variation` is half the sum of |share − probability|, with undecided samples as a look of probability 0.
    `agreement` is how often two samples of one scene have the same look: Σp² for samples from the true
    distribution, 1 if each scene has only one. `correct` is how often a sample has the true look; its expectation
    is Σp² too. Both count decided samples only.
    """

    shares: list[LookShare]
    undecided: LookShare
    total_variation: tuple[float, float, float]
    agreement: float
    correct: float
    expected_agreement: float


def pixel_looks(images: Float[Tensor, "*n 3 h w"], colours: Float[Tensor, "k 3"]) -> Int[Tensor, "*n h w"]:
    """Find the colour of each pixel, whatever its brightness.

    It is the nearest one by angle between colour vectors, if nearer than half the smallest angle between two of
    the colours; `UNDECIDED` otherwise, and for nearly black pixels.

    Args:
        images: in [-1, 1].
        colours: two or more, in [0, 1].
    """
    pixels = images.movedim(-3, -1).double() * 0.5 + 0.5
    length = pixels.norm(dim=-1, keepdim=True)
    directions = colours.to(pixels) / colours.to(pixels).norm(dim=-1, keepdim=True)
    cosines = (pixels / length.clamp(min=1e-6)) @ directions.T
    between = max(float(directions[i] @ directions[j]) for i, j in combinations(range(len(directions)), 2))
    least = float(np.cos(np.arccos(min(between, 1.0)) / 2))
    nearest = cosines.max(dim=-1)
    return torch.where((nearest.values > least) & (length[..., 0] > _DARK), nearest.indices, UNDECIDED)


def sampled_looks(
    samples: Float[Tensor, "s v 3 h w"], hidden: Bool[Tensor, "v h w"], colours: Float[Tensor, "k 3"]
) -> SampledLooks:
    """Find the look that most pixels of the hidden part have, those where `hidden` is true.

    A sample in which fewer than half of them agree has none. Raises ValueError if there is no such pixel.
    """
    if not hidden.any():
        raise ValueError("no pixel shows the hidden part")
    looks = pixel_looks(samples, colours)[:, hidden]
    counts = torch.stack([(looks == look).double().mean(dim=1) for look in range(len(colours))], dim=1)
    most = counts.max(dim=1)
    return SampledLooks(torch.where(most.values >= 0.5, most.indices, UNDECIDED), most.values)


def distribution_of_looks(
    looks: Int[np.ndarray, "scenes s"], true: Int[np.ndarray, " scenes"], probabilities: Float[np.ndarray, " k"]
) -> LookDistribution:
    """Compare the looks of several samples of each scene with their distribution.

    Intervals are percentiles of a bootstrap over scenes with a fixed seed, since samples of one scene may be
    alike. For a single scene they have no width.
    """
    outcomes = [*range(len(probabilities)), UNDECIDED]
    law = np.array([*probabilities, 0.0])
    each = np.stack([(looks == outcome).mean(axis=1) for outcome in outcomes], axis=1)
    chosen = np.random.default_rng(0).integers(len(looks), size=(_RESAMPLES, len(looks)))
    resampled = each[chosen].mean(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    shares = [LookShare(*map(float, part)) for part in zip(each.mean(axis=0), low, high, law, strict=True)]
    distance = np.abs(each.mean(axis=0) - law).sum() / 2
    least, most = np.percentile(np.abs(resampled - law).sum(axis=1) / 2, [2.5, 97.5])
    decided = looks != UNDECIDED
    return LookDistribution(
        shares=shares[:-1],
        undecided=shares[-1],
        total_variation=(float(distance), float(least), float(most)),
        agreement=_agreement(looks, len(probabilities)),
        correct=float((looks == true[:, None])[decided].mean()) if decided.any() else float("nan"),
        expected_agreement=float((law**2).sum()),
    )


def _agreement(looks: Int[np.ndarray, "scenes s"], count: int) -> float:
    """Compute how often two decided samples of one scene have the same look, over all such pairs."""
    counts = np.stack([(looks == look).sum(axis=1) for look in range(count)], axis=1)
    decided = counts.sum(axis=1)
    pairs = (decided * (decided - 1)).sum()
    return float((counts * (counts - 1)).sum() / pairs) if pairs else float("nan")
