"""Complete networks on the DiT core: from an image to an image, and from an image to latent codes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfm_lightning.networks.dit import DiT, LevelEmbedding, ModulatedOutput, PatchTokens, unpatchify


class ImageToImage(nn.Module):
    """A network from an image and its diffusion level to a map of the same size. Zero at the start of training.

    Args:
        in_channels: channels of the input image.
        out_channels: channels of the output map.
        width: length of a token.
        depth: number of transformer blocks.
        heads: attention heads of each block.
        patch: side of the square of pixels that is one token.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 1152,
        depth: int = 28,
        heads: int = 16,
        patch: int = 2,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.tokens = PatchTokens(in_channels, width, patch)
        self.level = LevelEmbedding(width)
        self.core = DiT(width, depth, heads)
        self.output = ModulatedOutput(width, patch * patch * out_channels)

    def forward(self, image: Float[Tensor, "b c h w"], level: Int[Tensor, " b"]) -> Float[Tensor, "b k h w"]:
        """Compute the map of each image."""
        condition = self.level(level)
        tokens = self.output(self.core(self.tokens(image), condition), condition)
        return unpatchify(tokens, image.shape[2] // self.patch, self.patch)


class ImageToCodes(nn.Module):
    """A network from an image and its diffusion level to a set of vectors, whose tokens attend to the image.

    Args:
        in_channels: channels of the input image.
        codes: number of output vectors.
        code_width: length of each.
        width: length of a token.
        depth: number of transformer blocks.
        heads: attention heads of each block.
        patch: side of the square of pixels that is one token.
    """

    def __init__(
        self,
        in_channels: int,
        codes: int,
        code_width: int,
        width: int = 1152,
        depth: int = 28,
        heads: int = 16,
        patch: int = 4,
    ) -> None:
        super().__init__()
        self.tokens = PatchTokens(in_channels, width, patch)
        self.queries = nn.Parameter(torch.randn(codes, width) * 0.02)
        self.level = LevelEmbedding(width)
        self.core = DiT(width, depth, heads)
        self.output = ModulatedOutput(width, code_width)

    def forward(self, image: Float[Tensor, "b c h w"], level: Int[Tensor, " b"]) -> Float[Tensor, "b codes k"]:
        """Compute the codes of each image."""
        condition = self.level(level)
        queries = self.queries.expand(len(image), -1, -1)
        tokens = self.core(torch.cat([queries, self.tokens(image)], dim=1), condition)
        return self.output(tokens[:, : len(self.queries)], condition)
