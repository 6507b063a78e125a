"""A 3×3 convolution that keeps float32's precision on a CPU too."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Convolution3x3(nn.Conv2d):
    """A 3×3 convolution with zero padding, whose result has its channels last.

    oneDNN computes large ones by Winograd's algorithm, with ten times the rounding error of a matrix product. On
    the CPU they are therefore computed as nine matrix products, which take about as long.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w k"]:
        """Convolve an image."""
        if image.device.type != "cpu":
            return super().forward(image).permute(0, 2, 3, 1).contiguous()
        batch, channels, height, width = image.shape
        padded = F.pad(image.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        assert self.bias is not None
        result = self.bias.expand(batch * height * width, -1)
        for row in range(3):
            for column in range(3):
                shifted = padded[:, row : row + height, column : column + width].reshape(-1, channels)
                result = torch.addmm(result, shifted, self.weight[:, :, row, column].T)
        return result.view(batch, height, width, -1)
