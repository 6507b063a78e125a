"""The volume rendering integral along rays, by quadrature (Max 1995; NeRF, equation 3)."""

import torch
from jaxtyping import Float
from torch import Tensor


def intervals_of(
    distances: Float[Tensor, "*r s"], last: Float[Tensor, "*r 1"] | None = None
) -> Float[Tensor, "*r s"]:
    """Return how far each point is from the next; `last` for the last one, or as far as the one before it."""
    intervals = distances.diff(dim=-1)
    return torch.cat([intervals, intervals[..., -1:] if last is None else last], dim=-1)


def compositing_weights(
    density: Float[Tensor, "*r s"], distances: Float[Tensor, "*r s"], last: Float[Tensor, "*r 1"] | None = None
) -> Float[Tensor, "*r s"]:
    """Compute the share of each point in its ray's observation: its opacity times the transmittance before it.

    Distances increase along the ray; see `intervals_of` for `last`. Negative densities count as zero.
    """
    opacity = 1 - torch.exp(-torch.relu(density) * intervals_of(distances, last))
    # Kept off zero, so that the gradient of the product exists behind an opaque point: by as much as the original
    # codes do, DFM's and (with ends of rays' own) SparseFusion's.
    passing = torch.cumprod(1 - opacity + (1e-10 if last is None else 1e-15), dim=-1)
    transmittance = torch.cat([torch.ones_like(passing[..., :1]), passing[..., :-1]], dim=-1)
    return opacity * transmittance


def composite(weights: Float[Tensor, "*r s"], values: Float[Tensor, "*r s c"]) -> Float[Tensor, "*r c"]:
    """Sum the points' values along each ray by weight."""
    with torch.autocast(weights.device.type, enabled=False):
        return (weights[..., None, :] @ values)[..., 0, :]
