"""Attention with a null key and normalisation before and after, as in Imagen (Saharia et al. 2022, appendix B)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class GainNorm(nn.Module):
    """Layer normalisation with a gain and no shift, over the last dimension or, of images, over channels.

    Args:
        channels: numbers that are normalised together.
        dim: the dimension they stand in.
    """

    def __init__(self, channels: int, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim
        self.gain = nn.Parameter(torch.ones(channels, *[1] * (-dim - 1)))

    def forward(self, x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Normalise; the constant that prevents division by zero is larger in half precision."""
        least = 1e-3 if x.element_size() < 4 else 1e-5
        variance, mean = torch.var_mean(x, dim=self.dim, unbiased=False, keepdim=True)
        return (x - mean) * (variance + least).rsqrt() * self.gain


class _Attention(nn.Module):
    """The common part of both attentions: queries of normalised tokens, a null key, a normalised result."""

    def __init__(self, channels: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GainNorm(channels)
        self.null = nn.Parameter(torch.randn(2, head_width))
        self.queries = nn.Linear(channels, heads * head_width, bias=False)
        self.output = nn.Linear(heads * head_width, channels, bias=False)
        self.output_norm = GainNorm(channels)

    def _attend(
        self, x: Float[Tensor, "b n c"], keys: Float[Tensor, "b h k e"], values: Float[Tensor, "b h k e"]
    ) -> Float[Tensor, "b n c"]:
        """Attend from normalised tokens to the keys and the null key; a single head of keys serves all heads."""
        queries = self.queries(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        null_key, null_value = self.null.expand(*keys.shape[:2], 2, -1).split(1, dim=2)
        keys, values = (
            torch.cat(pair, dim=2).expand(-1, self.heads, -1, -1)
            for pair in ((null_key, keys), (null_value, values))
        )
        found = F.scaled_dot_product_attention(queries, keys, values)
        return self.output_norm(self.output(found.transpose(1, 2).flatten(2)))


class SelfAttention(_Attention):
    """Attention of tokens to each other with one head of keys and values, and to condition tokens if there are.

    Args:
        channels: width of the tokens.
        heads: heads of queries.
        head_width: width of each.
        condition: width of condition tokens; none if null.
    """

    def __init__(self, channels: int, heads: int, head_width: int, condition: int | None = None) -> None:
        super().__init__(channels, heads, head_width)
        self.keys_values = nn.Linear(channels, 2 * head_width, bias=False)
        if condition is not None:
            self.condition_norm = nn.LayerNorm(condition)
            self.condition_keys_values = nn.Linear(condition, 2 * head_width)

    def forward(
        self, x: Float[Tensor, "b n c"], condition: Float[Tensor, "b m d"] | None = None
    ) -> Float[Tensor, "b n c"]:
        """Compute what is to be added to the tokens."""
        x = self.norm(x)
        keys_values = self.keys_values(x)
        if condition is not None:
            given = self.condition_keys_values(self.condition_norm(condition))
            keys_values = torch.cat([given, keys_values], dim=1)
        keys, values = keys_values[:, None].chunk(2, dim=-1)
        return self._attend(x, keys, values)


class CrossAttention(_Attention):
    """Attention of tokens to condition tokens.

    Args:
        channels: width of the tokens.
        heads: attention heads.
        head_width: width of each.
        condition: width of the condition tokens.
    """

    def __init__(self, channels: int, heads: int, head_width: int, condition: int) -> None:
        super().__init__(channels, heads, head_width)
        self.keys_values = nn.Linear(condition, 2 * heads * head_width, bias=False)

    def forward(self, x: Float[Tensor, "b n c"], condition: Float[Tensor, "b m d"]) -> Float[Tensor, "b n c"]:
        """Compute what is to be added to the tokens."""
        parts = self.keys_values(condition).chunk(2, dim=-1)
        keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self._attend(self.norm(x), keys, values)


def as_tokens(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n c"]:
    """Take pixels for tokens, row by row."""
    return x.flatten(2).mT


def as_image(tokens: Float[Tensor, "b n c"], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Put tokens back where `as_tokens` took them from."""
    return tokens.mT.reshape(like.shape)


class TransformerLayer(nn.Module):
    """Self-attention among pixels, with condition tokens, and a feed-forward part of twice the width.

    Args:
        channels: of the image.
        heads: attention heads.
        head_width: width of each.
        condition: width of the condition tokens.
    """

    def __init__(self, channels: int, heads: int, head_width: int, condition: int) -> None:
        super().__init__()
        self.attention = SelfAttention(channels, heads, head_width, condition)
        self.feed_forward = nn.Sequential(
            GainNorm(channels, dim=-3),
            nn.Conv2d(channels, 2 * channels, 1, bias=False),
            nn.GELU(),
            GainNorm(2 * channels, dim=-3),
            nn.Conv2d(2 * channels, channels, 1, bias=False),
        )

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b m d"]) -> Float[Tensor, "b c h w"]:
        """Transform an image."""
        x = x + as_image(self.attention(as_tokens(x), condition), x)
        return x + self.feed_forward(x)
