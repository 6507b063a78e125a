"""Perturbed-attention guidance: away from what a transformer estimates when its tokens cannot see each other."""

from contextlib import AbstractContextManager

from torch import nn

from dfm_lightning.networks.dit import without_attention
from dfm_lightning.ranges import Number, check_above, check_at_least
from dfm_lightning.record import Recorded


class PerturbedAttention(Recorded):
    """Guides each estimate m of the signal to m + s (m − m̂), for DiT denoisers (Ahn et al. 2024).

    m̂ is the denoiser's estimate with the identity in place of the attention maps of some blocks: each token has
    its own value alone, so that structure is lost and appearance kept. Needs no training and no dropped context.
    What the denoiser computes of the context beforehand (`condition`) is not perturbed.

    Cost: each evaluation of a sampler evaluates the denoiser twice. Radiance fields are queried twice as well.

    Args:
        scale: s, above 0.
        blocks: numbers of the perturbed blocks, from 0 on; the middle one if not given.
    """

    def __init__(self, scale: Number = 1.0, blocks: list[int] | None = None) -> None:
        check_above(0, scale=scale)
        check_at_least(0, blocks=blocks)
        self.scale = scale
        self.blocks = blocks

    def perturbing(self, denoiser: nn.Module) -> AbstractContextManager[None]:
        """Perturb a denoiser while what this returns is open.

        Raises:
            UserError: the denoiser does not have the blocks that are to be perturbed.
        """
        return without_attention(denoiser, self.blocks)
