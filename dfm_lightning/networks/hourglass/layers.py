"""Parts of the hourglass transformer: norms, gated feed-forward layers, Fourier features, merged tokens."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.types import at_least_float32

_EPSILON = 1e-6


def zeroed(layer: nn.Linear) -> nn.Linear:
    """Set a layer's weights to zero, so that it does nothing at the start of training."""
    nn.init.zeros_(layer.weight)
    return layer


def root_mean_square_norm(x: Float[Tensor, "*b d"], scale: Float[Tensor, "*s d"]) -> Float[Tensor, "*b d"]:
    """Divide x by its root mean square, times a scale; in float32 at least."""
    precise = x.to(at_least_float32(x))
    normed = precise * torch.rsqrt(precise.square().mean(dim=-1, keepdim=True) + _EPSILON)
    return (normed * scale.to(precise.dtype)).to(x.dtype)


class RMSNorm(nn.Module):
    """Division by the root mean square, with a learned scale for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Normalise the last dimension."""
        return root_mean_square_norm(x, self.scale)


class AdaRMSNorm(nn.Module):
    """Division by the root mean square; the scale is 1 plus a linear function of the condition, 0 at the start."""

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.linear = zeroed(nn.Linear(condition_width, width, bias=False))

    def forward(self, x: Float[Tensor, "b h w d"], condition: Float[Tensor, "b e"]) -> Float[Tensor, "b h w d"]:
        """Normalise the last dimension."""
        return root_mean_square_norm(x, 1 + self.linear(condition)[:, None, None])


class GatedLinear(nn.Module):
    """A linear layer in which one half gates the other by GELU (GEGLU)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * hidden, bias=False)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b f"]:
        """Return the first half, gated by the second."""
        value, gate = self.linear(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """A residual gated feed-forward layer of tokens, whose norm is conditioned."""

    def __init__(self, width: int, hidden: int, condition_width: int, dropout: float) -> None:
        super().__init__()
        self.norm = AdaRMSNorm(width, condition_width)
        self.up = GatedLinear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.down = zeroed(nn.Linear(hidden, width, bias=False))

    def forward(self, x: Float[Tensor, "b h w d"], condition: Float[Tensor, "b e"]) -> Float[Tensor, "b h w d"]:
        """Add the layer's output to the tokens."""
        return x + self.down(self.dropout(self.up(self.norm(x, condition))))


class MappingBlock(nn.Module):
    """A residual gated feed-forward layer of the condition."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = RMSNorm(width)
        self.up = GatedLinear(width, hidden)
        self.down = zeroed(nn.Linear(hidden, width, bias=False))

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Add the layer's output to the condition."""
        return x + self.down(self.up(self.norm(x)))


class FourierFeatures(nn.Module):
    """Cosines and sines of random projections 2π W x, with fixed W."""

    weight: Tensor

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(features // 2, inputs))

    def forward(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "b f"]:
        """Return cosines, then sines."""
        angles = 2 * math.pi * x.to(self.weight.dtype) @ self.weight.mT
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Merge(nn.Module):
    """A layer that merges p × p neighbouring tokens into one."""

    def __init__(self, inputs: int, outputs: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.linear = nn.Linear(inputs * patch**2, outputs, bias=False)

    def forward(self, x: Float[Tensor, "b h w d"]) -> Float[Tensor, "b i j e"]:
        """Merge the tokens."""
        batch, height, width, channels = x.shape
        p = self.patch
        blocks = x.reshape(batch, height // p, p, width // p, p, channels).transpose(2, 3)
        return self.linear(blocks.flatten(3))


class Split(nn.Module):
    """A layer that splits each token into p × p."""

    def __init__(self, inputs: int, outputs: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.linear = nn.Linear(inputs, outputs * patch**2, bias=False)

    def forward(self, x: Float[Tensor, "b i j e"]) -> Float[Tensor, "b h w d"]:
        """Split the tokens."""
        p = self.patch
        batch, rows, columns, _ = x.shape
        blocks = self.linear(x).reshape(batch, rows, columns, p, p, -1).transpose(2, 3)
        return blocks.reshape(batch, rows * p, columns * p, -1)


class SplitToSkip(nn.Module):
    """A layer that splits each token into p × p and mixes them with the skip connection's by a learned share."""

    def __init__(self, inputs: int, outputs: int, patch: int) -> None:
        super().__init__()
        self.split = Split(inputs, outputs, patch)
        self.share = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Float[Tensor, "b i j e"], skip: Float[Tensor, "b h w d"]) -> Float[Tensor, "b h w d"]:
        """Split the tokens and mix them."""
        return torch.lerp(skip, self.split(x), self.share.to(skip.dtype))
