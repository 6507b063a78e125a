"""Losses of principal directions of a posterior: NPPC (Nehme et al. 2023), and InvFusion's form of it.

Besides the posterior's mean, a network predicts K vectors wₖ: orthogonal directions in which the posterior varies
most, each as long as the standard deviation along it. e = mean − x is the error of the mean, whose second moments
are the posterior's.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.types import LossTerm

DirectionLoss = Literal["invfusion", "nppc"]
# Steps over which the weights of InvFusion's two losses rise; NPPC's second weight rises between these two steps.
_INVFUSION_RAMPS = (32, 64)
_NPPC_RAMP = (100, 200)
_NPPC_WEIGHT = 0.1


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


def direction_terms(
    error: Float[Tensor, "b *o"], w: Float[Tensor, "b k *o"], loss: DirectionLoss, step: int
) -> dict[str, LossTerm]:
    """Compute the batch's mean losses of directions and of lengths, with the published weights at a training step.

    Args:
        error: of the posterior's mean, without gradient.
        w: predicted directions.
        loss: whose formulas and weights.
        step: number of optimizer steps so far.
    """
    if loss == "invfusion":
        aligned, lengths = (part.mean() for part in direction_losses(error, w))
        first, second = (min(1.0, (step + 1) / ramp) ** 2 for ramp in _INVFUSION_RAMPS)
    else:
        explained, each = nppc_losses(error, w)
        aligned, lengths = explained.mean(), each.mean()
        begin, end = _NPPC_RAMP
        first, second = 1.0, _NPPC_WEIGHT * min(max((step - begin) / (end - begin), 0.0), 1.0)
    return {"directions": LossTerm(aligned, first), "lengths": LossTerm(lengths, second)}


def _unit(vectors: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=_least(vectors))


def _least(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny ** 0.5
