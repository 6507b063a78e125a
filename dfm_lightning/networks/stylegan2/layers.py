"""The layers of StyleGAN2 (Karras et al. 2020): linear layers with run-time gain, modulated convolutions, filters.

Weights are stored as drawn from a standard normal distribution and scaled by a gain when used ("equalised
learning rate", Karras et al. 2018, section 4.1).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

LEAKY_SLOPE = 0.2
# Leaky ReLU roughly halves the variance; multiplying by √2 restores it.
ACTIVATION_GAIN = math.sqrt(2.0)
# [1, 3, 3, 1] ⊗ [1, 3, 3, 1], normalised to sum 1 and times 4, which compensates for the inserted zeros.
UPSAMPLING_FILTER = tuple(tuple(4 * a * b / 64 for a in (1, 3, 3, 1)) for b in (1, 3, 3, 1))


class EqualizedLinear(nn.Module):
    """y = (gain · W) x + bias_gain · b, with W drawn from N(0, 1) / lr_multiplier.

    A `lr_multiplier` below 1 slows the layer's learning: its parameters are larger and scaled down by it in use.
    """

    def __init__(self, in_features: int, out_features: int, bias: float = 0.0, lr_multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "b o"]:
        """Apply the affine map to each row."""
        return F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)


def normalize_second_moment(x: Float[Tensor, "b i"]) -> Float[Tensor, "b i"]:
    """Scale each row to a mean square of one."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def leaky_relu(x: Tensor) -> Tensor:
    """Apply leaky ReLU without its gain."""
    return F.leaky_relu(x, LEAKY_SLOPE)


def modulated_convolution(
    x: Float[Tensor, "b i h w"],
    weight: Float[Tensor, "o i k k"],
    style: Float[Tensor, "b i"],
    upsample: bool,
) -> tuple[Float[Tensor, "b o h2 w2"], Float[Tensor, "b o 1 1"]]:
    """Convolve with weights scaled along their input channels by each element's style, without demodulation.

    Scaling the input instead of the weights is equivalent; it needs one convolution for the whole batch, and no
    gradient of frozen weights. The styles are rescaled so that the result stays in the range of half precision.

    Args:
        x: input; its type is that of the convolution, while `weight` and `style` are in full precision.
        weight: the shared weights.
        style: factors on the input channels.
        upsample: double the size: transposed convolution of stride 2, then the [1, 3, 3, 1] filter.

    Returns:
        The convolution, and the factor that demodulates it (Karras et al. 2020, eq. 3), in full precision.
    """
    scale = (style.abs().amax(dim=1, keepdim=True) * math.sqrt(weight[0].numel())).clamp(min=1e-8).reciprocal()
    power = style.square() @ weight.square().sum(dim=(2, 3)).T
    demodulation = (power + 1e-8).rsqrt() / scale
    x = x * (style * scale).to(x.dtype)[:, :, None, None]
    weight = weight.to(x.dtype)
    if upsample:
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        channels = x.shape[1]
        x = F.conv2d(x, upsampling_filter(x).expand(channels, 1, 4, 4), padding=1, groups=channels)
    else:
        x = F.conv2d(x, weight, padding=weight.shape[2] // 2)
    return x, demodulation[:, :, None, None]


def upsampling_filter(like: Tensor) -> Float[Tensor, "4 4"]:
    """Return the [1, 3, 3, 1] filter with the type and device of a tensor."""
    return torch.tensor(UPSAMPLING_FILTER, dtype=like.dtype, device=like.device)


def upsample_image(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2*h 2*w"]:
    """Double the size: insert zeros after each pixel, then apply the [1, 3, 3, 1] filter."""
    channels = image.shape[1]
    kernel = upsampling_filter(image).expand(channels, 1, 4, 4)
    # Padding 2 before and 1 after around the inserted zeros is what a transposed convolution crops by 1.
    return F.conv_transpose2d(image, kernel, stride=2, padding=1, groups=channels)
