"""`LatentUNet`: predicts the noise in latents, given feature maps and the log signal-to-noise ratio."""

import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.networks.latent_unet.attention import (
    CrossAttention,
    SelfAttention,
    TransformerLayer,
    as_image,
    as_tokens,
)
from dfm_lightning.networks.latent_unet.blocks import (
    GROUPS,
    ParallelConvolutions,
    ResidualBlock,
    ShuffledUpsampling,
    SummedConvolutions,
)
from dfm_lightning.ranges import check_at_least
from dfm_lightning.record import Recorded

# Tokens that the time is told in to attention, and learned frequencies that it is embedded with.
_TIME_TOKENS = 2
_FREQUENCIES = 8


class TimeEmbedding(nn.Module):
    """A vector and tokens for the log signal-to-noise ratio, by learned frequencies.

    Args:
        width: of the vector.
        token_width: of the tokens.
    """

    def __init__(self, width: int, token_width: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(_FREQUENCIES))
        self.hidden = nn.Linear(2 * _FREQUENCIES + 1, width)
        self.vector = nn.Linear(width, width)
        self.tokens = nn.Linear(width, _TIME_TOKENS * token_width)
        self.token_norm = nn.LayerNorm(token_width)

    def forward(self, log_snr: Float[Tensor, " b"]) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b m d"]]:
        """Embed log(α²/σ²)."""
        x = log_snr[:, None]
        angles = 2 * math.pi * x * self.frequencies
        hidden = F.silu(self.hidden(torch.cat([x, angles.sin(), angles.cos()], dim=1)))
        tokens = self.tokens(hidden).unflatten(1, (_TIME_TOKENS, -1))
        return self.vector(hidden), self.token_norm(tokens)


class Level(nn.Module):
    """Residual blocks at one resolution, a transformer if any, and the step to the next resolution.

    Args:
        entry: the first block.
        blocks: the others.
        transformer: what follows them, if anything.
        change: leads to the next resolution.
    """

    def __init__(
        self,
        entry: ResidualBlock,
        blocks: list[ResidualBlock],
        transformer: TransformerLayer | None,
        change: nn.Module,
    ) -> None:
        super().__init__()
        self.entry = entry
        self.blocks = nn.ModuleList(blocks)
        self.transformer = transformer
        self.change = change

    def block_list(self) -> list[ResidualBlock]:
        """Give all blocks, the entry first."""
        return [self.entry, *(cast(ResidualBlock, block) for block in self.blocks)]

    def finish(self, x: Float[Tensor, "b c h w"], tokens: Float[Tensor, "b m d"]) -> Float[Tensor, "b c h w"]:
        """Apply the transformer, if there is one."""
        return x if self.transformer is None else self.transformer(x, tokens)


class LatentUNet(Recorded, nn.Module):
    """Predicts noise ε, as SparseFusion's view-conditioned latent diffusion model does (section 4.3 and A.2).

    The output layer begins with zeros. The default sizes are the released ones: 400 million parameters.

    Args:
        condition_channels: channels of the feature map that latents are given with.
        latent_channels: channels of the latents.
        width: channels at the full resolution; a multiple of 8.
        multipliers: channels behind each level in multiples of `width`; between two levels sides are halved.
        blocks: residual blocks of each level behind its first one.
        attention: whether each level has a transformer.
        heads: heads of self-attention.
        head_width: width of each.
        cross_heads: heads of the attention to time tokens in the middle.
        cross_head_width: width of each.
    """

    def __init__(
        self,
        condition_channels: int = 256,
        latent_channels: int = 4,
        width: int = 256,
        multipliers: tuple[int, ...] = (1, 2, 4, 4),
        blocks: int = 2,
        attention: tuple[bool, ...] = (False, False, False, True),
        heads: int = 8,
        head_width: int = 64,
        cross_heads: int = 8,
        cross_head_width: int = 64,
    ) -> None:
        super().__init__()
        check_at_least(1, condition_channels=condition_channels, latent_channels=latent_channels, width=width)
        check_at_least(1, multipliers=multipliers, blocks=blocks, heads=heads, head_width=head_width)
        check_at_least(1, cross_heads=cross_heads, cross_head_width=cross_head_width)
        if width % GROUPS:
            raise ValueError(f"width must be a multiple of {GROUPS}, got {width}")
        if len(attention) != len(multipliers) or not multipliers:
            raise ValueError(f"attention must have a value for each of {len(multipliers)} multipliers")
        self.condition_channels = condition_channels
        self.latent_channels = latent_channels
        time, after = 4 * width, [width * multiplier for multiplier in multipliers]
        before, last = [width, *after[:-1]], len(after) - 1
        sizes = (heads, head_width)

        def transformer(channels: int, level: int) -> TransformerLayer | None:
            return TransformerLayer(channels, *sizes, width) if attention[level] else None

        def middle() -> ResidualBlock:
            attention = CrossAttention(after[-1], cross_heads, cross_head_width, width)
            return ResidualBlock(after[-1], after[-1], time, cross_attention=attention)

        self.time = TimeEmbedding(time, width)
        self.input = ParallelConvolutions(condition_channels + latent_channels, width)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for number, (i, o) in enumerate(zip(before, after, strict=True)):
            change = SummedConvolutions(i, o) if number == last else nn.Conv2d(i, o, 4, stride=2, padding=1)
            weighed = [ResidualBlock(i, i, time, True) for _ in range(blocks)]
            self.down.append(Level(ResidualBlock(i, i, time), weighed, transformer(i, number), change))
        for number, (i, o) in reversed(list(enumerate(zip(before, after, strict=True)))):
            rise = ShuffledUpsampling(o, i) if number > 0 else nn.Identity()
            weighed = [ResidualBlock(o + i, o, time, True) for _ in range(blocks)]
            self.up.append(Level(ResidualBlock(o + i, o, time), weighed, transformer(o, number), rise))
        self.middle_first = middle()
        self.middle_attention = SelfAttention(after[-1], *sizes)
        self.middle_second = middle()
        self.last_block = ResidualBlock(after[0], width, time, True)
        self.output = nn.Conv2d(width, latent_channels, 3, padding=1)
        for parameter in self.output.parameters():
            nn.init.zeros_(parameter)

    @property
    def factor(self) -> int:
        """Return the number that divides the sides of latents."""
        return 2 ** (len(self.down) - 1)

    def forward(
        self,
        noisy: Float[Tensor, "b c h w"],
        condition: Float[Tensor, "b f h w"],
        log_snr: Float[Tensor, " b"],
    ) -> Float[Tensor, "b c h w"]:
        """Predict the noise in latents whose signal-to-noise ratio is given as log(α²/σ²).

        Raises:
            ValueError: a side is not a multiple of `factor`.
        """
        if any(side % self.factor for side in noisy.shape[2:]):
            raise ValueError(f"sides of latents must be multiples of {self.factor}, got {tuple(noisy.shape[2:])}")
        time, tokens = self.time(log_snr.to(noisy.dtype))
        x = self.input(torch.cat([condition, noisy], dim=1))
        kept: list[Tensor] = []
        for level in (cast(Level, part) for part in self.down):
            entry, *others = level.block_list()
            x = entry(x, time, tokens)
            for block in others:
                x = block(x, time, tokens)
                kept.append(x)
            x = level.finish(x, tokens)
            kept.append(x)
            x = level.change(x)
        x = self.middle_first(x, time, tokens)
        x = x + as_image(self.middle_attention(as_tokens(x)), x)
        x = self.middle_second(x, time, tokens)
        for level in (cast(Level, part) for part in self.up):
            for block in level.block_list():
                # As in Imagen, what is brought over counts 1/√2.
                x = block(torch.cat([x, kept.pop() * 2**-0.5], dim=1), time, tokens)
            x = level.change(level.finish(x, tokens))
        return self.output(self.last_block(x, time, tokens))
