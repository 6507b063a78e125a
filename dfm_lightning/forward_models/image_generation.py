"""GAN inversion's forward model: a frozen generator, downsampling, and what a mask leaves of the image."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.geometry.images import downsample
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.networks.frozen import Frozen
from dfm_lightning.networks.stylegan2.generator import Generator
from dfm_lightning.networks.stylegan2.sampling import CodeStatistics, code_statistics
from dfm_lightning.networks.stylegan2.storage import find_generator, generator_hash, read_generator


class ImageGeneration(ForwardModel):
    """Runs a pretrained StyleGAN2 generator on codes and observes the image through a mask.

    The signal is a code [b 1 w_dim] for all layers or one a layer [b layers w_dim]. φ is a mask [b v 1 h w], 1
    where the image is seen; the image is brought to the mask's size. The generator is no part of what is
    trained: its weights are in no optimizer, no average and no checkpoint.

    Args:
        generator: file of a generator (.safetensors), or the name of a shipped one. Official pickles are
            converted by `dfm convert stylegan2`.
    """

    def __init__(self, generator: str) -> None:
        super().__init__()
        self._frozen = Frozen(read_generator(find_generator(generator)))
        self.fingerprint = generator_hash(self.generator)

    @property
    def generator(self) -> Generator:
        """The frozen generator."""
        return self._frozen.network

    def identities(self) -> dict[str, Any]:
        """The generator itself, not its name."""
        return {"generator": self.fingerprint[:16]}

    def statistics(self) -> CodeStatistics:
        """Mean and spread of the generator's codes."""
        return code_statistics(self.generator)

    def forward(
        self, signal: Float[Tensor, "b l w_dim"], params: Float[Tensor, "b v 1 h w"]
    ) -> Float[Tensor, "b v c h w"]:
        """See `ForwardModel`: the image of each code, downsampled against aliasing, times each mask."""
        return downsample(self.full_image(signal), (params.shape[-2], params.shape[-1]))[:, None] * params

    def full_image(self, signal: Float[Tensor, "b l w_dim"]) -> Float[Tensor, "b c size size"]:
        """The image of each code at the generator's own resolution."""
        return self.generator(signal)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ImageGeneration":
        """Take the generator along to another device or precision."""
        self.generator._apply(fn, recurse)
        return super()._apply(fn, recurse)
