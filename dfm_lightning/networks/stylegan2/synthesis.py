"""The synthesis network of StyleGAN2: from codes to an image, summed over a pyramid of RGB images."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.networks.stylegan2.architecture import Architecture
from dfm_lightning.networks.stylegan2.layers import (
    ACTIVATION_GAIN,
    EqualizedLinear,
    leaky_relu,
    modulated_convolution,
    upsample_image,
)

NoiseMode = Literal["const", "random", "none"]


class StyledConvolution(nn.Module):
    """Convolution, demodulation, noise, bias, leaky ReLU times √2, clamp.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        w_dim: length of the code.
        resolution: height and width of the output.
        upsample: the output is twice as large as the input.
        clamp: activations are clamped to ± this.
    """

    noise: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, resolution: int, upsample: bool, clamp: float
    ) -> None:
        super().__init__()
        self.style = EqualizedLinear(w_dim, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(resolution, resolution))
        self.upsample = upsample
        self.clamp = clamp

    def forward(
        self, x: Float[Tensor, "b i h w"], code: Float[Tensor, "b w_dim"], noise: NoiseMode
    ) -> Float[Tensor, "b o h2 w2"]:
        """Compute the layer's activations, in the type of `x`."""
        x, demodulation = modulated_convolution(x, self.weight, self.style(code), self.upsample)
        # Leaky ReLU commutes with the positive gain, which is applied to its smaller summands instead.
        bias = (self.bias * ACTIVATION_GAIN)[None, :, None, None]
        x = torch.addcmul(bias.to(x.dtype), x, (demodulation * ACTIVATION_GAIN).to(x.dtype))
        if noise != "none":
            x = x + self._scaled_noise(x, noise)
        x = leaky_relu(x)
        return x.clamp(-self.clamp, self.clamp) if math.isfinite(self.clamp) else x

    def _scaled_noise(self, x: Tensor, noise: NoiseMode) -> Tensor:
        if noise == "const":
            values = self.noise
        else:
            values = torch.randn(len(x), 1, *self.noise.shape, dtype=self.noise.dtype, device=x.device)
        return (values * (self.noise_strength * ACTIVATION_GAIN)).to(x.dtype)


class ToRGB(nn.Module):
    """Modulated 1×1 convolution to colours, without demodulation or activation.

    Args:
        in_channels: channels of the features.
        image_channels: channels of the image.
        w_dim: length of the code.
        clamp: colours are clamped to ± this.
    """

    def __init__(self, in_channels: int, image_channels: int, w_dim: int, clamp: float) -> None:
        super().__init__()
        self.style = EqualizedLinear(w_dim, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(image_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(image_channels))
        self.style_gain = 1 / math.sqrt(in_channels)
        self.clamp = clamp

    def forward(self, x: Float[Tensor, "b i h w"], code: Float[Tensor, "b w_dim"]) -> Float[Tensor, "b c h w"]:
        """Compute the colours this block adds to the image, in full precision."""
        weight = self.weight * (self.style(code) * self.style_gain)[:, None, :]
        # With so few output colours, a matrix product with each element's own weights is fastest.
        colours = torch.einsum("bchw,boc->bohw", x, weight.to(x.dtype)).to(weight.dtype)
        colours = colours + self.bias[:, None, None]
        return colours.clamp(-self.clamp, self.clamp) if math.isfinite(self.clamp) else colours


class SynthesisBlock(nn.Module):
    """One resolution: an upsampling convolution (none at 4×4), a convolution, and its colours.

    Args:
        in_channels: channels of the block below; 0 at 4×4, where a learned constant begins.
        architecture: the generator's.
        index: position of the block; its resolution is 4 · 2^index.
    """

    def __init__(self, in_channels: int, architecture: Architecture, index: int) -> None:
        super().__init__()
        out_channels, w_dim, clamp = architecture.channels[index], architecture.w_dim, architecture.conv_clamp
        resolution = 4 * 2**index
        convolutions = []
        if in_channels > 0:
            convolutions.append(StyledConvolution(in_channels, out_channels, w_dim, resolution, True, clamp))
        convolutions.append(StyledConvolution(out_channels, out_channels, w_dim, resolution, False, clamp))
        self.convolutions = nn.ModuleList(convolutions)
        self.to_rgb = ToRGB(out_channels, architecture.image_channels, w_dim, clamp)

    def forward(
        self, x: Float[Tensor, "b i h w"], codes: Float[Tensor, "b l w_dim"], noise: NoiseMode
    ) -> tuple[Float[Tensor, "b o h2 w2"], Float[Tensor, "b c h2 w2"]]:
        """Compute the block's features and colours; `codes` holds one for each convolution and one for the
        colours.
        """
        for convolution, code in zip(self.convolutions, codes.unbind(1), strict=False):
            x = convolution(x, code, noise)
        return x, self.to_rgb(x, codes[:, -1])


class SynthesisNetwork(nn.Module):
    """A network from codes, one for each layer, to an image.

    Under autocast, blocks from `half_precision_from` on convolve in half precision; styles, demodulation and the
    sum of colours stay in full precision.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.half_precision_from = architecture.half_precision_from
        self.constant = nn.Parameter(torch.randn(architecture.channels[0], 4, 4))
        inputs = (0, *architecture.channels)
        self.blocks = nn.ModuleList(
            SynthesisBlock(inputs[index], architecture, index) for index in range(len(architecture.channels))
        )

    def forward(
        self, codes: Float[Tensor, "b l w_dim"], noise: NoiseMode = "const"
    ) -> Float[Tensor, "b c size size"]:
        """Compute the image of each element's codes. With `noise="random"`, noise is drawn from the global
        generator.
        """
        device = codes.device.type
        full = self.constant.dtype
        half = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else full
        codes = codes.to(full)
        with torch.autocast(device, enabled=False):
            return self._blocks(codes, noise, full, half)

    def _blocks(self, codes: Tensor, noise: NoiseMode, full: torch.dtype, half: torch.dtype) -> Tensor:
        x = self.constant.expand(len(codes), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        image, first = torch.zeros((), dtype=full, device=x.device), 0
        for index, block in enumerate(self.blocks):
            used = 1 if index == 0 else 2
            x = x.to(half if 4 * 2**index >= self.half_precision_from else full)
            # The code of a block's colours is also that of the next block's first convolution.
            x, colours = block(x, codes[:, first : first + used + 1], noise)
            image = colours + (upsample_image(image) if first > 0 else image)
            first += used
        return image
