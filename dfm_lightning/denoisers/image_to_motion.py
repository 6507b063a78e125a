"""The denoiser of motion prediction (DFM, supplement 2.2): from an image and a noisy target to a motion."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.interfaces import SignalDenoiser
from dfm_lightning.networks.embeddings import embed_smoothly
from dfm_lightning.networks.image_dit import ImageToImage
from dfm_lightning.ranges import check_above
from dfm_lightning.signals import Motion
from dfm_lightning.types import Level, Moment, Views, at_least_float32

# Weights of pixels that meet lie within exp(±this).
_LARGEST_IMPORTANCE = 10.0


class StillImage(NamedTuple):
    """The denoiser's conditioning: the image itself."""

    image: Float[Tensor, "b 3 h w"]


class ImageToMotion(SignalDenoiser[Motion, Moment, StillImage]):
    """A DiT from clean context and noisy target, concatenated along the channels, to a pixel-aligned motion.

    Args:
        width: length of a token.
        depth: number of transformer blocks.
        heads: attention heads of each block.
        patch: side of the square of pixels that is one token.
        flow_scale: pixels that an output of 1 stands for.
        importance: whether the network also decides which pixels win where several meet; otherwise all weigh the
            same.
        sees_target: whether the network is shown the noisy target. If not, it knows the context alone and predicts
            one motion, as a regression does: the baseline that sampling is compared with.
        smooth_levels: whether the network is told a level by its signal-to-noise ratio, so that its outputs at
            neighbouring levels do not jitter. The original networks are told its number.
    """

    def __init__(
        self,
        width: int = 1152,
        depth: int = 28,
        heads: int = 16,
        patch: int = 2,
        flow_scale: float = 1.0,
        importance: bool = True,
        sees_target: bool = True,
        smooth_levels: bool = False,
    ) -> None:
        super().__init__()
        check_above(0, flow_scale=flow_scale)
        self.flow_scale = flow_scale
        self.importance = importance
        self.sees_target = sees_target
        self.network = ImageToImage(6, 3 if importance else 2, width, depth, heads, patch)
        if smooth_levels:
            embed_smoothly(self.network)

    def condition(self, context: Views, target_params: Moment) -> StillImage:
        """See `SignalDenoiser`. The context is one view."""
        return StillImage(context.observation[:, 0])

    def forward(self, noisy: Float[Tensor, "b 1 3 h w"], level: Level, conditioning: StillImage) -> Motion:
        """See `SignalDenoiser`."""
        target = noisy[:, 0]
        if not self.sees_target:
            target, level = torch.zeros_like(target), torch.zeros_like(level)
        output = self.network(torch.cat([conditioning.image, target], dim=1), level)
        output = output.to(at_least_float32(output))
        flow = self.flow_scale * output[:, :2]
        if not self.importance:
            return Motion(flow, torch.zeros_like(flow[:, :1]))
        return Motion(flow, _LARGEST_IMPORTANCE * torch.tanh(output[:, 2:] / _LARGEST_IMPORTANCE))
