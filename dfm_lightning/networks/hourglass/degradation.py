"""The Feature Degradation Layer: features are measured like images, alongside the true measurement."""

from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class MapsCopies(Protocol):
    """The part of a linear operator that the layer needs: mapping stacks of images [b k c h w] and of
    measurements.
    """

    def apply(self, image: Any) -> Any: ...

    def pseudo_inverse(self, measurement: Any) -> Any: ...


class Measured(NamedTuple):
    """A measurement, its operator, and whether it exists (1) or nothing is known (0)."""

    operator: Any
    measurement: Float[Tensor, "b p q r"]
    present: Float[Tensor, " b"]


class FeatureDegradation(nn.Module):
    """A layer that lays tokens out as k images, measures them, mixes in the true measurement, and returns by A†.

    A token's channels stand for the pixels of its patch, then the copy, then the colour. The width is therefore a
    multiple of side² · channels, and k the quotient.

    Args:
        width: of the tokens.
        patch: side of a token's patch in pixels.
        channels: of the images.
    """

    def __init__(self, width: int, patch: int, channels: int) -> None:
        super().__init__()
        self.patch = patch
        self.channels = channels
        self.copies = width // (patch**2 * channels)
        self.linear = nn.Linear(self.copies + 1, self.copies)

    def forward(self, tokens: Float[Tensor, "b i j d"], measured: Measured) -> Float[Tensor, "b i j d"]:
        """Return tokens; zeros where nothing is known."""
        operator: MapsCopies = measured.operator
        seen = operator.apply(self.images(tokens))
        both = torch.cat([measured.measurement[:, None].to(seen.dtype), seen], dim=1)
        mixed = F.linear(both.movedim(1, -1).to(self.linear.weight.dtype), self.linear.weight, self.linear.bias)
        back = operator.pseudo_inverse(F.gelu(mixed).movedim(-1, 1))
        # (Selected, not multiplied: a missing measurement may hold any numbers.)
        known = measured.present.view(-1, 1, 1, 1, 1) > 0
        return self.tokens(torch.where(known, back, 0.0)).to(tokens.dtype)

    def images(self, tokens: Float[Tensor, "b i j d"]) -> Float[Tensor, "b k c h w"]:
        """Arrange tokens as images."""
        batch, rows, columns, _ = tokens.shape
        p = self.patch
        split = tokens.reshape(batch, rows, columns, p, p, self.copies, self.channels)
        return split.permute(0, 5, 6, 1, 3, 2, 4).reshape(batch, self.copies, self.channels, rows * p, columns * p)

    def tokens(self, images: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b i j d"]:
        """Arrange images as tokens."""
        batch, _, _, height, width = images.shape
        p = self.patch
        split = images.reshape(batch, self.copies, self.channels, height // p, p, width // p, p)
        return split.permute(0, 3, 5, 4, 6, 1, 2).flatten(3)
