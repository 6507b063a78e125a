"""Points that the coarse pass shows to be empty or hidden, left out of the fine pass."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dfm_lightning.forward_models.compositing import intervals_of
from dfm_lightning.signals import FieldStage, FieldValues, RadianceField


def most_light(
    density: Float[Tensor, "b n c"],
    distances: Float[Tensor, "b n s"],
    order: Int[Tensor, "b n s"],
    last: Float[Tensor, "b n 1"] | None = None,
) -> Float[Tensor, "b n s"]:
    """Bound the compositing weight of each point of the fine pass by what the coarse pass has found.

    Between two coarse points the density lies between theirs: the greater decides what a point gives, the lesser
    what reaches those behind it.

    Args:
        density: of the c coarse points of each ray.
        distances: of all s points of the fine pass, the coarse ones among them, from near to far.
        order: which of the coarse points (below c) or of the others each of them is.
        last: length of the last interval; see `compositing_weights`.
    """
    density = density.relu()
    following = torch.cat([density[..., 1:], density[..., -1:]], dim=-1)
    between = ((order < density.shape[-1]).cumsum(dim=-1) - 1).clamp(min=0)
    greater, lesser = (end(density, following).gather(-1, between) for end in (torch.maximum, torch.minimum))
    intervals = intervals_of(distances, last)
    depth = (lesser * intervals).cumsum(dim=-1) - lesser * intervals
    return (1 - torch.exp(-greater * intervals)) * torch.exp(-depth)


def brightest(weights: Float[Tensor, "b n s"], skipped: float) -> Bool[Tensor, "b n s"]:
    """Choose the points of each ray that are needed: all but those of least weight, together at most `skipped`."""
    least, places = weights.sort(dim=-1)
    return torch.zeros_like(weights, dtype=torch.bool).scatter(-1, places, least.cumsum(dim=-1) > skipped)


def query_chosen(
    field: RadianceField, points: Float[Tensor, "b n 3"], chosen: Bool[Tensor, "b n"], stage: FieldStage
) -> FieldValues:
    """Query the field at some of the points; at the others all values are 0.

    Elements of a batch have as many points as the one with most of them: others have some more than were chosen.
    """
    count = max(1, int(chosen.sum(dim=1).max()))
    places = chosen.byte().sort(dim=1, descending=True, stable=True).indices[:, :count]
    values = field.query(points.gather(1, places[..., None].expand(-1, -1, 3)), stage)

    def spread(part: Tensor) -> Tensor:
        index = places.view(*places.shape, *[1] * (part.ndim - 2)).expand_as(part)
        return part.new_zeros(*chosen.shape, *part.shape[2:]).scatter(1, index, part)

    return FieldValues(*(spread(part) for part in values))
