"""The distortion loss of mip-NeRF 360 (Barron et al. 2022, eq. 15), which concentrates weights along a ray."""

import torch
from jaxtyping import Float
from torch import Tensor


def distortion(
    weights: Float[Tensor, "*r s"], positions: Float[Tensor, "*r s"], widths: Float[Tensor, "*r s"]
) -> Float[Tensor, "*r"]:
    """Compute Σᵢⱼ wᵢ wⱼ |pᵢ − pⱼ| + ⅓ Σᵢ wᵢ² Δᵢ of each ray, in O(s); `positions` must ascend along it."""
    # For ascending positions Σᵢⱼ is twice the sum over j < i, where |pᵢ − pⱼ| = pᵢ − pⱼ: two running sums.
    moments = weights * positions
    weight_before = weights.cumsum(dim=-1) - weights
    moment_before = moments.cumsum(dim=-1) - moments
    between = 2 * (weights * (positions * weight_before - moment_before)).sum(dim=-1)
    within = (weights.square() * widths).sum(dim=-1) / 3
    return between + within


def ray_distortion(
    weights: Float[Tensor, "*r s"], distances: Float[Tensor, "*r s"], near: float, far: float
) -> Float[Tensor, ""]:
    """Average the distortion of rays sampled at ascending `distances`, in units of the ray's extent.

    As in the original code, intervals lie between samples, a sample stands at the left end of its interval, and
    the last one, which has no interval, is left out. The computation is in float32 (or float64 if given) under any
    precision.
    """
    with torch.autocast(weights.device.type, enabled=False):
        positions = (distances.to(torch.promote_types(distances.dtype, torch.float32)) - near) / (far - near)
        return distortion(weights[..., :-1].to(positions), positions[..., :-1], positions.diff(dim=-1)).mean()
