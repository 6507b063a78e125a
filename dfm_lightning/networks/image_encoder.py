"""The image encoder of the pixelNeRF denoiser: from clean context or noisy target to a feature map."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.networks.convolution import Convolution3x3
from dfm_lightning.networks.dit import (
    DiT,
    LevelEmbedding,
    ModulatedOutput,
    PatchTokens,
    unpatchify,
    zero_parameters,
)
from dfm_lightning.networks.embeddings import harmonic_embedding
from dfm_lightning.ranges import check_at_least
from dfm_lightning.record import Recorded

POSE_OCTAVES = 6
POSE_NUMBERS = 12 * (2 * POSE_OCTAVES + 1)


class PoseConditioning(nn.Module):
    """A layer that adds an absolute camera pose to a condition vector.

    Args:
        width: length of the condition vector.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pose = nn.Sequential(nn.Linear(POSE_NUMBERS, width), nn.ReLU(), nn.Linear(width, width))
        self.fuse = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(
        self, condition: Float[Tensor, "b d"], camera_to_world: Float[Tensor, "b 4 4"]
    ) -> Float[Tensor, "b d"]:
        """Add the pose to the condition."""
        pose = self.pose(harmonic_embedding(camera_to_world[:, :3].flatten(1), POSE_OCTAVES))
        return self.fuse(torch.cat([condition, pose], dim=1))


class ImageEncoder(Recorded, nn.Module):
    """A DiT at a quarter of the resolution, after one convolution and bypassed by another.

    A 7×7 convolution with stride 2 computes the DiT's input; its output is enlarged to the full resolution and
    joined by a 7×7 convolution of the image, so that fine detail survives. The last convolution, and so the
    features, start at zero. Context and noisy target share everything but the first convolution.

    Args:
        width: length of a token of the DiT.
        depth: number of transformer blocks.
        heads: attention heads of each block.
        feature_channels: channels of the feature map.
        estimate_features: channels of the deterministic estimate besides its colour (3) and depth (1); every point
            of the radiance fields has as many features.
        stem_channels: channels of the first convolution.
        skip_channels: channels of the convolution that bypasses the DiT.
        patch: side of the square of stem pixels that is one token.
        absolute_pose: whether the absolute camera poses condition the DiT, as in the paper for Co3D.
        position_grid: number of the DiT's tokens along a side of the images that training begins with, a quarter
            of their pixels if `patch` is 2. At other sizes position embeddings are then resized, so that a model
            can be trained, and used, at a higher resolution. Without it each size has its own.
        checkpointing: compute the transformer's blocks again in the backward pass instead of keeping what is in
            them: less memory in training, for another pass through them.
    """

    without_effect = frozenset({"checkpointing"})

    def __init__(
        self,
        width: int = 1152,
        depth: int = 28,
        heads: int = 16,
        feature_channels: int = 512,
        estimate_features: int = 64,
        stem_channels: int = 64,
        skip_channels: int = 64,
        patch: int = 2,
        absolute_pose: bool = False,
        position_grid: int | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_at_least(1, width=width, depth=depth, heads=heads, patch=patch, position_grid=position_grid)
        check_at_least(1, feature_channels=feature_channels, estimate_features=estimate_features)
        check_at_least(1, stem_channels=stem_channels, skip_channels=skip_channels)
        self.patch = patch
        self.feature_channels = feature_channels
        self.estimate_features = estimate_features
        self.absolute_pose = absolute_pose
        self.context_stem = nn.Conv2d(3, stem_channels, 7, stride=2, padding=3, bias=False)
        self.target_stem = nn.Conv2d(7 + estimate_features, stem_channels, 7, stride=2, padding=3, bias=False)
        self.tokens = PatchTokens(stem_channels, width, patch, position_grid)
        self.level = LevelEmbedding(width)
        self.pose = PoseConditioning(width) if absolute_pose else None
        self.core = DiT(width, depth, heads, checkpointing=checkpointing)
        self.output = ModulatedOutput(width, patch * patch * feature_channels)
        # Not at zero, unlike elsewhere: the last convolution is, and two zeros in a row would never learn.
        nn.init.xavier_uniform_(self.output.linear.weight)
        self.skip = nn.Conv2d(3, skip_channels, 7, padding=3)
        self.refine = Convolution3x3(feature_channels + skip_channels, feature_channels)
        zero_parameters(self.refine)

    def encode_context(
        self, images: Float[Tensor, "b 3 h w"], absolute_pose: Float[Tensor, "b 4 4"]
    ) -> Float[Tensor, "b h w f"]:
        """Compute feature maps of clean images, treated as level 0."""
        level = torch.zeros(len(images), dtype=torch.long, device=images.device)
        return self._encode(self.context_stem, images, level, absolute_pose)

    def encode_target(
        self,
        noisy: Float[Tensor, "b 3 h w"],
        estimate: Float[Tensor, "b c h w"],
        level: Int[Tensor, " b"],
        absolute_pose: Float[Tensor, "b 4 4"],
    ) -> Float[Tensor, "b h w f"]:
        """Compute feature maps of noisy images at their diffusion levels, given their deterministic estimates."""
        return self._encode(self.target_stem, torch.cat([noisy, estimate], dim=1), level, absolute_pose)

    def _encode(
        self, stem: nn.Module, image: Tensor, level: Tensor, absolute_pose: Tensor
    ) -> Float[Tensor, "b h w f"]:
        height, width = image.shape[2:]
        if height % (2 * self.patch) or width % (2 * self.patch):
            raise ValueError(f"image height and width must be multiples of {2 * self.patch}, got {height}×{width}")
        condition = self.level(level)
        if self.pose is not None:
            condition = self.pose(condition, absolute_pose)
        tokens = self.core(self.tokens(F.relu(stem(image))), condition)
        coarse = unpatchify(self.output(tokens, condition), height // 2 // self.patch, self.patch)
        enlarged = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
        return self.refine(torch.cat([enlarged, self.skip(image[:, :3])], dim=1))
