"""Losses of principal directions of a posterior: NPPC (Nehme et al. 2023), and InvFusion's form of it.

Besides the posterior's mean, a network predicts K vectors wₖ: orthogonal directions in which the posterior varies
most, each as long as the standard deviation along it. e = mean − x is the error of the mean, whose second moments
are the posterior's.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def orthogonal_directions(w: Float[Tensor, "b k *o"]) -> Float[Tensor, "b k *o"]:
    """Orthogonalise vectors by Gram–Schmidt; no gradient flows through the earlier ones."""
    found: list[Tensor] = []
    units: list[Tensor] = []
    for vector in w.flatten(2).unbind(1):
        rest = vector
        for unit in units:
            rest = rest - (rest * unit).sum(dim=1, keepdim=True) * unit
        found.append(rest)
        units.append(_unit(rest.detach()))
    return torch.stack(found, dim=1).view(w.shape) if found else w


def direction_losses(
    error: Float[Tensor, "b *o"], w: Float[Tensor, "b k *o"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Compute InvFusion's losses of each element: Σ (1 − ⟨ê, wₖ/‖wₖ‖⟩²), and Σ (‖wₖ‖²/‖e‖² − ⟨ê, wₖ/‖wₖ‖⟩²)².

    ê = e/‖e‖; the vectors are made orthogonal first. The second loss affects the lengths alone.
    """
    flat = orthogonal_directions(w).flatten(2)
    length = error.flatten(1).norm(dim=1)
    aligned = torch.einsum("bn,bkn->bk", _unit(error.flatten(1)), _unit(flat)).square()
    squared = flat.square().sum(dim=2) / length.clamp(min=_least(error)).square()[:, None]
    return (1 - aligned).sum(dim=1), (squared - aligned.detach()).square().sum(dim=1)


def nppc_losses(
    error: Float[Tensor, "b *o"], w: Float[Tensor, "b k *o"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b k"]]:
    """Compute NPPC's losses of each element: 1 − Σ ⟨ê, wₖ/‖wₖ‖⟩², and (‖wₖ‖²/‖e‖² − ⟨ê, wₖ/‖wₖ‖⟩²)² for each
    direction.
    """
    flat = orthogonal_directions(w).flatten(2)
    length = error.flatten(1).norm(dim=1)
    aligned = torch.einsum("bn,bkn->bk", _unit(error.flatten(1)), _unit(flat)).square()
    squared = flat.square().sum(dim=2) / length.clamp(min=_least(error)).square()[:, None]
    return 1 - aligned.sum(dim=1), (squared - aligned.detach()).square()


def _unit(vectors: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=_least(vectors))


def _least(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny ** 0.5
