"""GAN inversion's denoiser: from a masked context image and a noisy image to a generator's code."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.interfaces import SignalDenoiser
from dfm_lightning.networks.embeddings import embed_smoothly
from dfm_lightning.networks.image_dit import ImageToCodes
from dfm_lightning.ranges import check_at_least
from dfm_lightning.types import Level, Views


class MaskedImage(NamedTuple):
    """The context as the network sees it: the image, zero where it is hidden, and the mask."""

    channels: Float[Tensor, "b 4 h w"]


class PatchToCode(SignalDenoiser[Tensor, Tensor, MaskedImage]):
    """A DiT from masked context, its mask and the noisy target, concatenated, to the code w.

    The network predicts the code's deviation from the generator's mean code, in units of the codes' spread;
    `centre` sets both.

    Args:
        code_width: length of the generator's codes.
        layers: number of codes to predict: 1 for all layers of the generator (w), or one for each (w+).
        width: length of a token.
        depth: number of transformer blocks.
        heads: attention heads of each block.
        patch: side of the square of pixels that is one token.
        smooth_levels: whether the network is told a level by its signal-to-noise ratio, so that its outputs at
            neighbouring levels do not jitter. The original networks are told its number.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        code_width: int = 512,
        layers: int = 1,
        width: int = 1152,
        depth: int = 28,
        heads: int = 16,
        patch: int = 4,
        smooth_levels: bool = False,
    ) -> None:
        super().__init__()
        check_at_least(1, code_width=code_width, layers=layers)
        self.code_width = code_width
        self.layers = layers
        self.network = ImageToCodes(7, layers, code_width, width, depth, heads, patch)
        if smooth_levels:
            embed_smoothly(self.network)
        # Not stored with the weights: they belong to the generator.
        self.register_buffer("mean", torch.zeros(code_width), persistent=False)
        self.register_buffer("spread", torch.ones(code_width), persistent=False)

    def centre(self, mean: Float[Tensor, " w_dim"], spread: Float[Tensor, " w_dim"]) -> None:
        """Set mean and standard deviation of the generator's codes."""
        self.mean.copy_(mean)
        self.spread.copy_(spread)

    def condition(self, context: Views, target_params: Float[Tensor, "b v 1 h w"]) -> MaskedImage:
        """See `SignalDenoiser`. The context is one view; its parameters are the mask."""
        return MaskedImage(torch.cat([context.observation[:, 0], context.params[:, 0]], dim=1))

    def forward(
        self, noisy: Float[Tensor, "b 1 3 h w"], level: Level, conditioning: MaskedImage
    ) -> Float[Tensor, "b layers code_width"]:
        """See `SignalDenoiser`."""
        deviation = self.network(torch.cat([conditioning.channels, noisy[:, 0]], dim=1), level)
        return self.mean + self.spread * deviation.to(self.mean.dtype)

    def drop_context(self, context: Views) -> Views:
        """Return a context that shows no pixel."""
        return Views(torch.zeros_like(context.observation), torch.zeros_like(context.params))
