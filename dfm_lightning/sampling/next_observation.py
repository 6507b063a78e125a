"""The observation to make next: the one that samples disagree about most (active diffusion subsampling)."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfm_lightning.ranges import check_above
from dfm_lightning.types import at_least_float32


def disagreement(observations: Float[Tensor, "n m *o"], deviation: float | None = None) -> Float[Tensor, " m"]:
    """Estimate the entropy of what would be observed under each of some parameters, up to constants.

    Samples that agree with all that is known are particles of the posterior; what they predict under candidate
    parameters, each with normal noise around it, is a mixture whose entropy is approximated by
    −1/n Σ_i ln 1/n Σ_j e^(−d_ij² / 2s²) (Nolan et al. 2025, active diffusion subsampling; d is the distance over
    the whole observation).

    Args:
        observations: of n samples under m candidate parameters each, as from `model.observe`.
        deviation: s: the noise of each number of an observation, or what difference matters. By default the root
            mean square distance of two particles over all candidates: enough to rank them, without units.

    Returns:
        A number for each candidate: 0 if all samples agree, at most ln n.

    Raises:
        ValueError: the deviation is not above 0, or there are fewer than two samples.
    """
    check_above(0, deviation=deviation)
    count = len(observations)
    if count < 2:
        raise ValueError(f"samples must be 2 or more to disagree, got {count}")
    flat = observations.to(at_least_float32(observations)).flatten(2).transpose(0, 1)
    distances = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").square()
    scale = distances.mean() if deviation is None else distances.new_tensor(2 * deviation**2)
    exponents = -distances / scale.clamp(min=torch.finfo(distances.dtype).tiny)
    return (math.log(count) - exponents.logsumexp(dim=2)).mean(dim=1)


def ranked(observations: Float[Tensor, "n m *o"], deviation: float | None = None) -> Int[Tensor, " m"]:
    """Order candidates by `disagreement`, the one to observe next first."""
    return disagreement(observations, deviation).argsort(descending=True, stable=True)
