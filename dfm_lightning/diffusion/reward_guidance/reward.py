"""Rewards: measures of the quality of samples."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfm_lightning.ranges import check_within
from dfm_lightning.record import Recorded


class Reward(Recorded, ABC):
    """A number for each sample, the greater the better. It need not be differentiable.

    A reward of your own derives from this; a config names it by its class path.
    """

    @abstractmethod
    def __call__(self, observation: Float[Tensor, "b *o"], signal: Any) -> Float[Tensor, " b"]:
        """Judge clean target observations, and the signals that they are observations of."""


class NearColour(Reward):
    """Nearness of an observation's mean colour to a given one: minus the squared distance, colours in [0, 1].

    Args:
        colour: red, green and blue, each from 0 to 1.
    """

    def __init__(self, colour: tuple[float, float, float]) -> None:
        check_within(0, 1, colour=colour)
        self.colour = colour

    def __call__(self, observation: Float[Tensor, "b *o"], signal: Any) -> Float[Tensor, " b"]:
        """See `Reward`."""
        mean = (observation.flatten(3).mean(dim=(1, 3)) + 1) / 2
        return -(mean - mean.new_tensor(self.colour)).square().sum(dim=1)


def gumbel(noise: Float[Tensor, "b *o"]) -> Float[Tensor, " b"]:
    """Turn the first number of each row of standard normal noise into one of Gumbel's distribution.

    The index of the largest of v_j / α + g_j, with independent g_j, has the probabilities softmax(v / α).
    """
    first = noise.flatten(1)[:, 0].double()
    # ln Φ is exact far into the tail; −ln(−ln Φ(z)) is a draw.
    return -torch.log(-torch.special.log_ndtr(first))


def boltzmann(
    values: Float[Tensor, "n b"], allowed: Tensor, temperature: float, noise: Float[Tensor, "b *o"]
) -> Int[Tensor, " b"]:
    """Draw one of the allowed entries of each column with probabilities softmax(values / temperature).

    Args:
        values: n values for each of b.
        allowed: which of them may be drawn, [n b]; at least one in each column.
        temperature: above 0.
        noise: standard normal; its first number in each row is used.
    """
    logits = (values.double() / temperature).masked_fill(~allowed, -math.inf)
    shares = logits.softmax(dim=0).cumsum(dim=0)
    uniform = torch.special.ndtr(noise.flatten(1)[:, 0].double())
    chosen = (shares <= uniform * shares[-1]).sum(dim=0).clamp(max=len(values) - 1)
    # Rounding must not choose what is not allowed.
    return torch.where(allowed.gather(0, chosen[None])[0], chosen, logits.argmax(dim=0))
