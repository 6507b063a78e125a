"""GAN inversion's forward model: a frozen generator, downsampling, and a mask."""

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


class ImageGeneration(ForwardModel[Tensor, Tensor]):
    """Run a pretrained StyleGAN2 generator on codes and observe the image through a mask.

    The signal is a code [b 1 w_dim] for all layers or one for each layer [b layers w_dim]. φ is a mask [b v 1 h
    w], 1 where the image is seen; the image is resized to the mask. The generator is not trained: its weights are
    in no optimizer, no average and no checkpoint.

    Args:
        generator: file of a generator (.safetensors), or the name of a shipped one. Official pickles are converted
            by `dfm convert stylegan2`.
    """

    def __init__(self, generator: str) -> None:
        super().__init__()
        self._frozen = Frozen(read_generator(find_generator(generator)))
        self.fingerprint = generator_hash(self.generator)

    @property
    def generator(self) -> Generator:
        """Return the frozen generator."""
        return self._frozen.network

    def identities(self) -> dict[str, Any]:
        """Return the generator itself in place of its name."""
        return {"generator": self.fingerprint[:16]}

    def statistics(self) -> CodeStatistics:
        """Return mean and spread of the generator's codes."""
        return code_statistics(self.generator)

    def forward(
        self, signal: Float[Tensor, "b l w_dim"], params: Float[Tensor, "b v 1 h w"]
    ) -> Float[Tensor, "b v c h w"]:
        """See `ForwardModel`: the image of each code, downsampled against aliasing, times each mask."""
        return downsample(self.full_image(signal), (params.shape[-2], params.shape[-1]))[:, None] * params

    def full_image(self, signal: Float[Tensor, "b l w_dim"]) -> Float[Tensor, "b c size size"]:
        """Generate the image of each code at the generator's own resolution."""
        return self.generator(signal)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ImageGeneration":
        """Move the generator along to another device or precision."""
        self.generator._apply(fn, recurse)
        return super()._apply(fn, recurse)
