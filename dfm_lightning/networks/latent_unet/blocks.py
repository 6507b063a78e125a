"""The convolutional parts of the latent U-Net."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.networks.latent_unet.attention import CrossAttention, as_image, as_tokens

GROUPS = 8


class ParallelConvolutions(nn.Module):
    """Convolutions of several sizes side by side: half of the channels the smallest, a quarter the next, ….

    Args:
        inputs: channels that go in.
        outputs: channels that come out.
        sizes: sides of the kernels, odd.
    """

    def __init__(self, inputs: int, outputs: int, sizes: tuple[int, ...] = (3, 7, 15)) -> None:
        super().__init__()
        shares = [outputs // 2**part for part in range(1, len(sizes))]
        shares.append(outputs - sum(shares))
        self.parts = nn.ModuleList(
            nn.Conv2d(inputs, share, size, padding=size // 2) for share, size in zip(shares, sizes, strict=True)
        )

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """Convolve."""
        return torch.cat([part(x) for part in self.parts], dim=1)


class GlobalContext(nn.Module):
    """Factors for the channels of an image from what it shows as a whole (Cao et al. 2020).

    Args:
        channels: of the image.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(3, channels // 2)
        self.weight = nn.Conv2d(channels, 1, 1)
        self.factors = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.SiLU(), nn.Conv2d(hidden, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 1"]:
        """Compute the factors, between 0 and 1."""
        weights = self.weight(x).flatten(2).softmax(dim=-1)
        return self.factors((x.flatten(2) @ weights.mT)[..., None])


class ResidualBlock(nn.Module):
    """Two convolutions, the second scaled and shifted by the time, then attention or channel weights.

    Args:
        inputs: channels that go in, a multiple of 8.
        outputs: channels that come out, a multiple of 8.
        time: width of the time vector.
        global_context: whether the result's channels are weighed by `GlobalContext`.
        cross_attention: attends to condition tokens between the convolutions, or none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        time: int,
        global_context: bool = False,
        cross_attention: CrossAttention | None = None,
    ) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(GROUPS, inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.cross_attention = cross_attention
        self.modulation = nn.Linear(time, 2 * outputs)
        self.second_norm = nn.GroupNorm(GROUPS, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.context = GlobalContext(outputs) if global_context else None
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(
        self, x: Float[Tensor, "b i h w"], time: Float[Tensor, "b t"], tokens: Float[Tensor, "b m d"]
    ) -> Float[Tensor, "b o h w"]:
        """Transform images at a time; `tokens` are what cross-attention is to."""
        hidden = self.first(F.silu(self.first_norm(x)))
        if self.cross_attention is not None:
            hidden = hidden + as_image(self.cross_attention(as_tokens(hidden), tokens), hidden)
        scale, shift = self.modulation(F.silu(time))[..., None, None].chunk(2, dim=1)
        hidden = self.second(F.silu(self.second_norm(hidden) * (scale + 1) + shift))
        if self.context is not None:
            hidden = hidden * self.context(hidden)
        return hidden + self.shortcut(x)


class SummedConvolutions(nn.Module):
    """A convolution of 3×3 and one of 1×1, added: what stands for halving at the lowest resolution.

    Args:
        inputs: channels that go in.
        outputs: channels that come out.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.narrow = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """Convolve."""
        return self.wide(x) + self.narrow(x)


class ShuffledUpsampling(nn.Sequential):
    """Doubles the resolution: a convolution to four times the channels, which become squares of pixels.

    Each square begins with four equal pixels.

    Args:
        inputs: channels that go in.
        outputs: channels that come out.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        convolution = nn.Conv2d(inputs, 4 * outputs, 1)
        with torch.no_grad():
            first = torch.empty(outputs, inputs, 1, 1)
            nn.init.kaiming_uniform_(first)
            convolution.weight.copy_(first.repeat_interleave(4, dim=0))
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # it has one
        super().__init__(convolution, nn.SiLU(), nn.PixelShuffle(2))
