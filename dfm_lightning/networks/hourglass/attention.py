"""Attention of the hourglass transformer: by cosine similarity, with rotary positions on two axes, in windows."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.networks.hourglass.layers import AdaRMSNorm, zeroed
from dfm_lightning.types import at_least_float32

_EPSILON = 1e-6
_FIRST_SCALE = 10.0


def axial_frequencies(heads: int, head_width: int) -> Float[Tensor, "heads f"]:
    """Return rotary frequencies: log-spaced from π to 10 π, over heads and an eighth of the head's width."""
    number = heads * head_width // 8
    spaced = torch.linspace(math.log(math.pi), math.log(10 * math.pi), number + 1)[:-1].exp()
    return spaced.view(head_width // 8, heads).mT.contiguous()


def axial_angles(height: int, width: int, frequencies: Float[Tensor, "heads f"]) -> Float[Tensor, "heads n f2"]:
    """Return angles of each token, row by row: by its row, then by its column; centres lie within −1 and 1."""
    axes = [(torch.arange(n, device=frequencies.device) + 0.5) / n * 2 - 1 for n in (height, width)]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 1).to(frequencies.dtype)
    return (places[None, :, :, None] * frequencies[:, None, None]).flatten(2)


def rotated(x: Float[Tensor, "b heads n d"], angles: Float[Tensor, "heads n f"]) -> Float[Tensor, "b heads n d"]:
    """Rotate the first half of each head by the angles, in pairs; leave the rest unchanged."""
    number = angles.shape[-1]
    first, second, rest = x.split([number, number, x.shape[-1] - 2 * number], dim=-1)
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine, rest], dim=-1)


@lru_cache(maxsize=16)
def window_mask(height: int, width: int, size: int, device: torch.device) -> Bool[Tensor, "n n"]:
    """Return which tokens each token sees: a window of size × size around it, shifted inwards at the borders."""
    with torch.inference_mode(False):
        seen = []
        for length in (height, width):
            extent = min(size, length)
            place = torch.arange(length, device=device)
            start = (place - extent // 2).clamp(0, length - extent)
            seen.append((place >= start[:, None]) & (place < start[:, None] + extent))
        return (seen[0][:, None, :, None] & seen[1][None, :, None, :]).flatten(2).flatten(0, 1)


class Attention(nn.Module):
    """Residual attention of tokens to each other, and to further tokens at the same places.

    Queries and keys have length √s, with a learned number s for each head. Further tokens (joint attention) have
    values and keys of their own, the keys computed from the token and the further one together; all share one
    softmax.

    Args:
        width: of the tokens.
        head_width: of a head; a multiple of 8 that divides the width.
        condition_width: of the condition.
        window: side of the windows; global attention if None.
        dropout: on the output of attention.
        joint: whether there may be further tokens.
    """

    def __init__(
        self,
        width: int,
        head_width: int,
        condition_width: int,
        window: int | None,
        dropout: float,
        joint: bool,
    ) -> None:
        super().__init__()
        self.head_width = head_width
        self.window = window
        heads = width // head_width
        self.scale = nn.Parameter(torch.full((heads,), _FIRST_SCALE))
        self.norm = AdaRMSNorm(width, condition_width)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.out = zeroed(nn.Linear(width, width, bias=False))
        self.register_buffer("frequencies", axial_frequencies(heads, head_width), persistent=False)
        self.joint_norm = AdaRMSNorm(width, condition_width) if joint else None
        self.joint_keys = nn.Linear(2 * width, width, bias=False) if joint else None
        self.joint_values = nn.Linear(width, width, bias=False) if joint else None

    def forward(
        self,
        x: Float[Tensor, "b h w d"],
        condition: Float[Tensor, "b e"],
        further: Sequence[Float[Tensor, "b h w d"]] = (),
    ) -> Float[Tensor, "b h w d"]:
        """Add the attention's output to the tokens."""
        _, height, width, _ = x.shape
        normed = self.norm(x, condition)
        queries, keys, values = self.queries_keys_values(normed).chunk(3, dim=-1)
        assert isinstance(self.frequencies, Tensor)
        angles = axial_angles(height, width, self.frequencies)
        all_keys, all_values = [self._placed(keys, angles)], [self._heads(values)]
        for other in further:
            assert self.joint_norm is not None
            assert self.joint_keys is not None
            assert self.joint_values is not None
            known = self.joint_norm(other, condition)
            all_keys.append(self._placed(self.joint_keys(torch.cat([normed, known], dim=-1)), angles))
            all_values.append(self._heads(self.joint_values(known)))
        mask = None
        if self.window is not None:
            mask = window_mask(height, width, self.window, x.device).repeat(1, len(all_keys))
        found = F.scaled_dot_product_attention(
            self._placed(queries, angles),
            torch.cat(all_keys, dim=2),
            torch.cat(all_values, dim=2),
            attn_mask=mask,
            scale=1.0,
        )
        return x + self.out(self.dropout(found.transpose(1, 2).flatten(2).view(x.shape)))

    def _heads(self, x: Float[Tensor, "b h w d"]) -> Float[Tensor, "b heads n e"]:
        return x.flatten(1, 2).unflatten(-1, (-1, self.head_width)).transpose(1, 2)

    def _placed(self, x: Float[Tensor, "b h w d"], angles: Tensor) -> Float[Tensor, "b heads n e"]:
        """Normalise queries or keys to length √s, and rotate them by their places."""
        heads = self._heads(x)
        precise = heads.to(at_least_float32(heads))
        length = torch.rsqrt(precise.square().sum(dim=-1, keepdim=True) + _EPSILON)
        scaled = precise * (self.scale.to(precise.dtype).sqrt()[:, None, None] * length)
        return rotated(scaled, angles).to(x.dtype)
