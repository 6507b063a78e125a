"""The hourglass diffusion transformer (Crowson et al. 2024), whose levels may contain operators."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dfm_lightning.networks.hourglass.attention import Attention
from dfm_lightning.networks.hourglass.degradation import FeatureDegradation, Measured
from dfm_lightning.networks.hourglass.layers import (
    FeedForward,
    FourierFeatures,
    MappingBlock,
    Merge,
    RMSNorm,
    Split,
    SplitToSkip,
    zeroed,
)

# Numbers that describe the augmentation of an image (EDM), all 0 if there was none.
AUGMENTATIONS = 9


class Level(NamedTuple):
    """One level of the hourglass; each merges tokens 2 × 2 from the level before.

    `window` is the side of the attention's windows, 0 for global attention. `joint` says whether the blocks of the
    level contain the operator (Feature Degradation Layer and joint attention).
    """

    depth: int
    width: int
    window: int = 0
    joint: bool = True


class Block(nn.Module):
    """Attention and feed-forward; with operators, attention includes tokens computed from their measurements."""

    def __init__(
        self,
        level: Level,
        head_width: int,
        condition_width: int,
        dropout: float,
        patch: int,
        channels: int,
        roles: int,
    ) -> None:
        super().__init__()
        joint = level.joint and roles > 0
        self.degradations = nn.ModuleList(
            FeatureDegradation(level.width, patch, channels) for _ in range(roles if joint else 0)
        )
        self.attention = Attention(level.width, head_width, condition_width, level.window or None, dropout, joint)
        self.feed_forward = FeedForward(level.width, 3 * level.width, condition_width, dropout)

    def forward(
        self, x: Float[Tensor, "b h w d"], condition: Float[Tensor, "b e"], measured: Sequence[Measured]
    ) -> Float[Tensor, "b h w d"]:
        """Transform the tokens."""
        known = [layer(x, part) for layer, part in zip(self.degradations, measured, strict=False)]
        return self.feed_forward(self.attention(x, condition, known), condition)


class Hourglass(nn.Module):
    """A transformer from images and a condition to images, whose tokens are merged and then split again.

    Args:
        inputs: channels of the input images.
        outputs: channels of the output images.
        channels: channels of the images that operators measure.
        patch: side of the first level's patches in pixels.
        levels: from the finest to the coarsest.
        head_width: of the attention's heads.
        mapping_width: of the condition.
        mapping_depth: number of blocks of the network that computes the condition.
        dropout: of attention and feed-forward.
        classes: number of image classes; 0 for none.
        roles: number of measurements given to the joint levels: 0 for a network without operators.
        checkpointing: recompute activations in the backward pass, to save memory.

    Raises:
        ValueError: a width is not divisible as required.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        channels: int,
        patch: int,
        levels: Sequence[Level],
        head_width: int = 64,
        mapping_width: int = 256,
        mapping_depth: int = 2,
        dropout: float = 0.0,
        classes: int = 0,
        roles: int = 1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_levels(levels, head_width, patch, channels, roles)
        self.checkpointing = checkpointing
        self.roles = roles
        self.patch = patch
        self.reduction = patch * 2 ** (len(levels) - 1)
        self.patch_in = Merge(inputs, levels[0].width, patch)
        self.time_features = FourierFeatures(1, mapping_width)
        self.time_in = nn.Linear(mapping_width, mapping_width, bias=False)
        self.augmentation_features = FourierFeatures(AUGMENTATIONS, mapping_width)
        self.augmentation_in = nn.Linear(mapping_width, mapping_width, bias=False)
        self.classes = classes
        # The last one stands for no class.
        self.class_embedding = nn.Embedding(classes + 1, mapping_width) if classes else None
        self.class_in = nn.Linear(mapping_width, mapping_width, bias=False) if classes else None
        self.mapping = nn.Sequential(
            RMSNorm(mapping_width),
            *[MappingBlock(mapping_width, 3 * mapping_width) for _ in range(mapping_depth)],
            RMSNorm(mapping_width),
        )

        def blocks(index: int) -> nn.ModuleList:
            side, level = patch * 2**index, levels[index]
            return nn.ModuleList(
                Block(level, head_width, mapping_width, dropout, side, channels, roles) for _ in range(level.depth)
            )

        outer = range(len(levels) - 1)
        self.down = nn.ModuleList(blocks(index) for index in outer)
        self.merges = nn.ModuleList(Merge(levels[i].width, levels[i + 1].width, 2) for i in outer)
        self.middle = blocks(len(levels) - 1)
        self.splits = nn.ModuleList(SplitToSkip(levels[i + 1].width, levels[i].width, 2) for i in outer)
        self.up = nn.ModuleList(blocks(index) for index in outer)
        self.out_norm = RMSNorm(levels[0].width)
        self.patch_out = Split(levels[0].width, outputs, patch)
        zeroed(self.patch_out.linear)

    def forward(
        self,
        image: Float[Tensor, "b c h w"],
        noise: Float[Tensor, " b"],
        measured: Sequence[Measured] = (),
        label: Int[Tensor, " b"] | None = None,
        augmentation: Float[Tensor, "b 9"] | None = None,
    ) -> tuple[Float[Tensor, "b o h w"], Float[Tensor, "b i j d"]]:
        """Return images, and the features of the finest level that they were computed from.

        Args:
            image: what is known pixel by pixel; its sides are multiples of `reduction`.
            noise: c_noise, a quarter of ln σ.
            measured: one for each role, or none.
            label: the class; −1, or no label at all, for none.
            augmentation: how the images were augmented.

        Raises:
            ValueError: the image's sides are not multiples of `reduction`.
        """
        if image.shape[-2] % self.reduction or image.shape[-1] % self.reduction:
            raise ValueError(
                f"images of {image.shape[-2]}×{image.shape[-1]} pixels cannot be divided by patches and levels: "
                f"their sides must be multiples of {self.reduction}"
            )
        condition = self.condition(noise, label, augmentation).to(image.dtype)
        tokens = self.patch_in(image.movedim(1, -1))
        skips = []
        for blocks, merge in zip(self.down, self.merges, strict=True):
            tokens = self._through(blocks, tokens, condition, measured)
            skips.append(tokens)
            tokens = merge(tokens)
        tokens = self._through(self.middle, tokens, condition, measured)
        for blocks, split in zip(reversed(self.up), reversed(self.splits), strict=True):
            tokens = self._through(blocks, split(tokens, skips.pop()), condition, measured)
        features = self.out_norm(tokens)
        return self.patch_out(features).movedim(-1, 1), features

    def condition(
        self,
        noise: Float[Tensor, " b"],
        label: Int[Tensor, " b"] | None,
        augmentation: Float[Tensor, "b 9"] | None,
    ) -> Float[Tensor, "b e"]:
        """Compute the condition of all norms."""
        unchanged = noise.new_zeros(len(noise), AUGMENTATIONS)
        given = self.time_in(self.time_features(noise[:, None]))
        given = given + self.augmentation_in(
            self.augmentation_features(unchanged if augmentation is None else augmentation)
        )
        if self.class_embedding is not None:
            assert self.class_in is not None
            which = torch.full_like(noise, -1, dtype=torch.long) if label is None else label
            # (A class unknown to the network must not be taken for none.)
            which = torch.where(which < 0, self.classes, which)
            given = given + self.class_in(self.class_embedding(which))
        return self.mapping(given)

    def _through(
        self, blocks: nn.Module, tokens: Tensor, condition: Tensor, measured: Sequence[Measured]
    ) -> Float[Tensor, "b h w d"]:
        assert isinstance(blocks, nn.ModuleList)
        for block in blocks:
            if self.checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, condition, measured, use_reentrant=False)
            else:
                tokens = block(tokens, condition, measured)
        return tokens


def check_levels(levels: Sequence[Level], head_width: int, patch: int, channels: int, roles: int) -> None:
    """Raise `ValueError` if a level's width cannot be divided into heads and images."""
    if not levels:
        raise ValueError("levels must list at least one level")
    if head_width % 8:
        raise ValueError(f"head_width must be a multiple of 8, got {head_width}")
    for number, level in enumerate(levels):
        if level.width % head_width:
            raise ValueError(
                f"the width {level.width} of level {number} is not a multiple of head_width {head_width}"
            )
        numbers = (patch * 2**number) ** 2 * channels
        if roles and level.joint and level.width % numbers:
            raise ValueError(
                f"the width {level.width} of level {number} is not a multiple of {numbers}, the numbers of a "
                "token's patch: set its joint to false, or another width"
            )
