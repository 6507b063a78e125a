"""The Diffusion Transformer (Peebles and Xie 2023): a core from tokens to tokens, and the parts around it.

A network for images puts `PatchTokens` before the core and `ModulatedOutput` with `unpatchify` after it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from timm.layers import Mlp, PatchEmbed
from timm.models.vision_transformer import Attention
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dfm_lightning.errors import UserError
from dfm_lightning.networks.embeddings import LevelSinusoids, position_embedding_2d
from dfm_lightning.ranges import check_above, check_at_least


def modulate(
    tokens: Float[Tensor, "b n d"], shift: Float[Tensor, "b d"], scale: Float[Tensor, "b d"]
) -> Float[Tensor, "b n d"]:
    """Scale and shift the tokens of each image (adaptive layer norm)."""
    return tokens * (1 + scale[:, None]) + shift[:, None]


def zero_parameters(module: nn.Module) -> None:
    """Set all parameters to zero, so that training starts as if the module were absent."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


class LevelEmbedding(nn.Module):
    """An embedding of diffusion levels: sinusoids, then a small MLP.

    Args:
        width: length of the vector.
        sinusoids: number of sinusoids the MLP sees.
    """

    def __init__(self, width: int, sinusoids: int = 256) -> None:
        super().__init__()
        self.sinusoids = LevelSinusoids(sinusoids)
        first, second = nn.Linear(sinusoids, width), nn.Linear(width, width)
        for layer in (first, second):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.mlp = nn.Sequential(first, nn.SiLU(), second)

    def forward(self, level: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """Embed each level."""
        return self.mlp(self.sinusoids(level, next(self.parameters()).dtype))


class _TanhGELU(nn.GELU):
    """GELU by its tanh approximation."""

    def __init__(self) -> None:
        super().__init__(approximate="tanh")


class DiTBlock(nn.Module):
    """Attention and MLP; the condition sets their normalisation and their weight in the result (adaLN-Zero)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, num_heads=heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio), act_layer=_TanhGELU)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        # Tokens see each other, except while `without_attention` is open.
        self.attends = True
        self._initialise()

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        zero_parameters(self.modulation)

    def forward(self, tokens: Float[Tensor, "b n d"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b n d"]:
        """Transform the tokens of each image under its condition."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=1)
        attention: Callable[[Tensor], Tensor] = self.attn if self.attends else self._own_values
        tokens = tokens + gate1[:, None] * attention(modulate(self.norm1(tokens), shift1, scale1))
        return tokens + gate2[:, None] * self.mlp(modulate(self.norm2(tokens), shift2, scale2))

    def _own_values(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Compute attention with the identity as its map: each token has its own value alone."""
        values = self.attn.qkv(tokens).chunk(3, dim=-1)[2]
        return self.attn.proj(values)


class DiT(nn.Module):
    """A stack of conditioned transformer blocks; at the start of training, the identity.

    Args:
        width: length of a token and of the condition.
        depth: number of blocks.
        heads: attention heads; divides the width.
        mlp_ratio: width of the hidden layer of each block's MLP, as a multiple of the width.
        checkpointing: compute the blocks again in the backward pass instead of keeping what is in them.
    """

    def __init__(
        self, width: int, depth: int, heads: int, mlp_ratio: float = 4.0, checkpointing: bool = False
    ) -> None:
        super().__init__()
        check_at_least(1, width=width, depth=depth, heads=heads)
        check_above(0, mlp_ratio=mlp_ratio)
        if width % heads:
            raise ValueError(f"the width must be a multiple of the number of heads, got {width} and {heads}")
        self.blocks = nn.ModuleList(DiTBlock(width, heads, mlp_ratio) for _ in range(depth))
        self.checkpointing = checkpointing

    def forward(self, tokens: Float[Tensor, "b n d"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b n d"]:
        """Transform the tokens of each image under its condition."""
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, condition, use_reentrant=False)
            else:
                tokens = block(tokens, condition)
        return tokens


@contextmanager
def without_attention(module: nn.Module, blocks: Sequence[int] | None = None) -> Iterator[None]:
    """Put the identity in place of the attention maps of some blocks of each DiT in a module, while this is open.

    Args:
        module: holds one DiT or several.
        blocks: numbers of blocks, from 0 on; the middle one of each DiT if not given.

    Raises:
        UserError: there is no DiT in the module, or no block of that number in one.
    """
    cores = [part for part in module.modules() if isinstance(part, DiT)]
    if not cores:
        raise UserError(
            f"perturbed_attention is for diffusion transformers, and there is none in {type(module).__name__}: "
            "leave it out"
        )
    chosen = [block for core in cores for block in _blocks(core, blocks)]
    try:
        for block in chosen:
            block.attends = False
        yield
    finally:
        for block in chosen:
            block.attends = True


def _blocks(core: DiT, numbers: Sequence[int] | None) -> list[DiTBlock]:
    depth = len(core.blocks)
    chosen = [depth // 2] if numbers is None else numbers
    beyond = [number for number in chosen if number >= depth]
    if beyond:
        raise UserError(f"blocks of perturbed_attention must be within 0 and {depth - 1} here, got {beyond[0]}")
    return [block for place, block in enumerate(core.blocks) if place in chosen and isinstance(block, DiTBlock)]


class ModulatedOutput(nn.Module):
    """A map from tokens to output numbers; starts at zero.

    Args:
        width: length of a token.
        channels: numbers for each token.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.linear = nn.Linear(width, channels)
        zero_parameters(self)

    def forward(self, tokens: Float[Tensor, "b n d"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b n c"]:
        """Compute the output of each token."""
        shift, scale = self.modulation(condition).chunk(2, dim=1)
        return self.linear(modulate(self.norm(tokens), shift, scale))


class PatchTokens(nn.Module):
    """One token for each square patch of an image, with its position added, for any image size.

    Args:
        channels: channels of the image.
        width: length of a token.
        patch: side of a patch in pixels; divides height and width of the image.
        grid: number of tokens along a side to which the positions of every image are rescaled; by default, each
            image uses its own.
    """

    def __init__(self, channels: int, width: int, patch: int, grid: int | None = None) -> None:
        super().__init__()
        check_at_least(1, channels=channels, width=width, patch=patch, position_grid=grid)
        self.patch = patch
        self.grid = grid
        self.embed = PatchEmbed(
            img_size=None, patch_size=patch, in_chans=channels, embed_dim=width, strict_img_size=False
        )
        nn.init.xavier_uniform_(self.embed.proj.weight.view(width, -1))

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Return the tokens, row by row."""
        height, width = image.shape[2:]
        if height % self.patch or width % self.patch:
            raise ValueError(f"an image of {height}×{width} does not divide into patches of {self.patch}")
        rows, columns = height // self.patch, width // self.patch
        # In the weights' precision: under autocast the sum, which all blocks build on, is then in float32.
        weight = self.embed.proj.weight
        return self.embed(image) + position_embedding_2d(rows, columns, len(weight), weight, self.grid)


def unpatchify(tokens: Float[Tensor, "b n c"], rows: int, patch: int) -> Float[Tensor, "b k h w"]:
    """Arrange tokens of patch·patch·k numbers (row, column, channel within the patch) as an image."""
    batch, count, _ = tokens.shape
    columns = count // rows
    grid = tokens.view(batch, rows, columns, patch, patch, -1)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, rows * patch, columns * patch)
