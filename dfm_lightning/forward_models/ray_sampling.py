"""The points at which a ray evaluates a radiance field: coarse ones everywhere, fine ones near surfaces."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Spacing = Literal["distance", "inverse_distance"]


def coarse_distances(
    near: float | Tensor, far: float | Tensor, samples: int, spacing: Spacing, like: Float[Tensor, "..."]
) -> Float[Tensor, "*r s"]:
    """Return distances from `near` to `far`, both included, equally spaced in distance or in inverse distance.

    Both may be tensors [*r 1]: rays then have ends of their own.
    """
    fractions = torch.linspace(0, 1, samples, dtype=like.dtype, device=like.device)
    if spacing == "distance":
        return near * (1 - fractions) + far * fractions
    return 1 / ((1 - fractions) / near + fractions / far)


def jittered(distances: Float[Tensor, "*r s"]) -> Float[Tensor, "*r s"]:
    """Replace each distance by a random one of its stratum, whose borders are half-way to its neighbours."""
    middles = (distances[..., 1:] + distances[..., :-1]) / 2
    lower = torch.cat([distances[..., :1], middles], dim=-1)
    upper = torch.cat([middles, distances[..., -1:]], dim=-1)
    return lower + (upper - lower) * torch.rand_like(distances)


def jittered_between_ends(distances: Float[Tensor, "*r s"]) -> Float[Tensor, "*r s"]:
    """Apply `jittered`, except to the first distance and the last two.

    The ends stay where evaluation has them, so that content there is sampled as often; keeping the last two keeps
    the length of the last interval, which has no next point. The opacity of a wall at the end is therefore the
    same.
    """
    return torch.cat([distances[..., :1], jittered(distances)[..., 1:-2], distances[..., -2:]], dim=-1)


@torch.no_grad()
def importance_distances(
    distances: Float[Tensor, "*r s"],
    weights: Float[Tensor, "*r s"],
    samples: int,
    random: bool,
    middles: bool = False,
) -> Float[Tensor, "*r samples"]:
    """Draw distances distributed as the compositing weights of coarse points (NeRF, section 5.2); detached.

    The weights of the first and last point are left out, and 1e-5 is added to the others. The density is constant
    between the middles of neighbouring points. The quantiles are equally spaced from 0 to 1, or random except for
    these two, which are the same in training and evaluation; with `middles`, they are the middles of equal parts,
    or all random.
    """
    dtype = distances.dtype
    # Whether an interval at the end is nearly empty depends on digits that float32 lacks near 1.
    if distances.device.type != "mps":
        distances, weights = distances.double(), weights.double()
    borders = (distances[..., 1:] + distances[..., :-1]) / 2
    mass = weights[..., 1:-1] + 1e-5
    cumulative = torch.cumsum(mass / mass.sum(dim=-1, keepdim=True), dim=-1)
    cumulative = torch.nn.functional.pad(cumulative, (1, 0))
    shape = (*distances.shape[:-1], samples)
    if random:
        quantiles = torch.rand(shape, dtype=dtype, device=distances.device).to(distances.dtype)
        if samples > 1 and not middles:
            quantiles[..., 0], quantiles[..., -1] = 0, 1
    else:
        half = 0.5 / samples if middles else 0.0
        ends = (half, 1 - half)
        quantiles = torch.linspace(*ends, samples, dtype=distances.dtype, device=distances.device).expand(shape)
    upper = torch.searchsorted(cumulative, quantiles.contiguous())
    upper, lower = upper.clamp(max=cumulative.shape[-1] - 1), (upper - 1).clamp(min=0)
    cumulative_lower, cumulative_upper = (cumulative.gather(-1, index) for index in (lower, upper))
    border_lower, border_upper = (borders.gather(-1, index) for index in (lower, upper))
    # Within a nearly empty interval, quantiles stay put, as in NeRF's code.
    width = cumulative_upper - cumulative_lower
    fraction = (quantiles - cumulative_lower) / torch.where(width < 1e-5, 1.0, width)
    return (border_lower + fraction * (border_upper - border_lower)).to(dtype)
