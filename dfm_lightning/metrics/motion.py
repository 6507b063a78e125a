"""Compare sampled motions with the true one, and sampled directions with their distribution."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

UNDECIDED = -1


class DirectionShare(NamedTuple):
    """The share of samples that move in one direction: mean over images, its standard error, extremes."""

    mean: float
    standard_error: float
    least: float
    greatest: float


def end_point_error(flows: Float[Tensor, "s 2 h w"], truth: Float[Tensor, "2 h w"]) -> Float[Tensor, " s"]:
    """Average the distance between a flow and the true one, in pixels, over all pixels."""
    return (flows - truth).norm(dim=1).flatten(1).mean(dim=1)


def sampled_directions(
    flows: Float[Tensor, "s 2 h w"],
    moving: Bool[Tensor, "h w"],
    truth: Float[Tensor, "2 h w"],
    directions: Float[Tensor, "d 2"],
) -> Int[Tensor, " s"]:
    """Find the direction in which each sample moves a shape, by its mean flow over the shape's pixels.

    A sample that moves less than half the true way in its direction is `UNDECIDED`.
    """
    way = truth[:, moving].mean(dim=1).norm()
    best = (flows[:, :, moving].mean(dim=2) @ directions.T).max(dim=1)
    return torch.where(best.values >= way / 2, best.indices, UNDECIDED)


def direction_shares(choices: Int[Tensor, "images s"], direction: int) -> DirectionShare:
    """Compute the share of samples that chose a direction, image by image.

    The standard error is that of the mean over images, from their differences; for one image, the binomial one.
    """
    shares = (choices == direction).double().mean(dim=1)
    images, samples = choices.shape
    if images > 1:
        error = shares.std() / images**0.5
    else:
        error = (shares * (1 - shares) / samples).sqrt()
    return DirectionShare(float(shares.mean()), float(error), float(shares.min()), float(shares.max()))
