"""A convolutional U-Net over curves, images or volumes, conditioned on a vector (a diffusion level, say)."""

from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.networks.dit import zero_parameters

Dimensions = Literal[1, 2, 3]
# Channels last: on a CPU a convolution is then a matrix product over contiguous memory, a third faster.
_MEMORY_FORMAT = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}
_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}
_GROUPS = 8


class VolumeConvolution(nn.Conv3d):
    """`Conv3d` that is as quick for one volume as for several.

    On a CPU, PyTorch leaves a batch of one to a general kernel, which takes up to ten times as long as oneDNN's.
    """

    def forward(self, input: Float[Tensor, "b i *s"]) -> Float[Tensor, "b o *r"]:
        """Convolve each volume of the batch."""
        single = len(input) == 1 and input.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        known = input.dtype == self.weight.dtype == torch.float32
        if not (single and known and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
            return super().forward(input)
        if torch.is_grad_enabled() and (input.requires_grad or self.weight.requires_grad):
            # The gradient's kernels choose likewise: two volumes take a third of the time of one. One-cell
            # convolutions are matrix products anyway.
            wide = max(self.kernel_size) > 1
            return super().forward(torch.cat([input, input.detach()]) if wide else input)[:1]
        result: Tensor = torch.ops.aten.mkldnn_convolution(
            input, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )
        return result


_CONVOLUTION: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: VolumeConvolution}


class ConditionedBlock(nn.Module):
    """Two 3-wide convolutions beside a shortcut; the condition scales and shifts the activations between them.

    The second convolution and the condition's influence start at zero, so that the block starts as its shortcut.

    Args:
        dimensions: 1 for curves, 2 for images, 3 for volumes.
        inputs: input channels; a multiple of 8.
        outputs: output channels; a multiple of 8.
        condition: length of the condition vector.
    """

    def __init__(self, dimensions: Dimensions, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        convolution = _CONVOLUTION[dimensions]
        self.first_norm = nn.GroupNorm(_GROUPS, inputs)
        self.first = convolution(inputs, outputs, 3, padding=1)
        self.second_norm = nn.GroupNorm(_GROUPS, outputs)
        self.second = convolution(outputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(condition, 2 * outputs)
        self.shortcut = convolution(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        for layer in (self.second, self.modulation):
            zero_parameters(layer)

    def forward(self, x: Float[Tensor, "b i *s"], condition: Float[Tensor, "b c"]) -> Float[Tensor, "b o *s"]:
        """Transform each image or volume of the batch under its condition."""
        hidden = self.first(F.silu(self.first_norm(x)))
        shape = (len(x), -1, *[1] * (x.ndim - 2))
        scale, shift = self.modulation(condition).view(shape).chunk(2, dim=1)
        hidden = self.second(F.silu(torch.addcmul(shift, self.second_norm(hidden), 1 + scale)))
        return self.shortcut(x) + hidden


class GlobalAttention(nn.Module):
    """Self-attention among all cells, added to the input; starts as the identity.

    Args:
        channels: channels of the cells; a multiple of 8 and of `heads`.
        heads: attention heads.
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.queries_keys_values = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)
        zero_parameters(self.output)

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        """Let every cell attend to all others."""
        tokens = self.norm(x).flatten(2).mT
        parts = self.queries_keys_values(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts)
        return x + self.output(mixed.transpose(1, 2).flatten(2)).mT.reshape(x.shape)


class UNet(nn.Module):
    """Blocks of falling resolution and back, with each level's result added on the way up.

    Args:
        dimensions: 1 for curves, 2 for images, 3 for volumes.
        inputs: input channels.
        outputs: output channels.
        widths: channels at each resolution, the full one first, each half of the one before along every side;
            multiples of 8. The input's sides must be multiples of 2^(number of widths − 1).
        condition: length of the condition vector.
    """

    def __init__(
        self, dimensions: Dimensions, inputs: int, outputs: int, widths: list[int], condition: int
    ) -> None:
        super().__init__()
        if any(width < _GROUPS or width % _GROUPS for width in widths) or not widths:
            raise ValueError(f"widths must be multiples of {_GROUPS}, one or more, got {widths}")
        convolution = _CONVOLUTION[dimensions]

        def block(before: int, after: int) -> ConditionedBlock:
            return ConditionedBlock(dimensions, before, after, condition)

        self.dimensions = dimensions
        # In a volume, where the full resolution dominates the cost, the first width is reached cell by cell.
        side = 1 if dimensions == 3 else 3
        self.input = convolution(inputs, widths[0], side, padding=side // 2)
        self.down = nn.ModuleList(block(*pair) for pair in zip([widths[0], *widths], widths, strict=False))
        self.middle = nn.ModuleList([block(widths[-1], widths[-1]), block(widths[-1], widths[-1])])
        self.attention = GlobalAttention(widths[-1])
        upwards = widths[::-1]
        self.narrow = nn.ModuleList(convolution(*pair, 1) for pair in pairwise(upwards))
        self.up = nn.ModuleList(block(width, width) for width in upwards[1:])
        self.output_norm = nn.GroupNorm(_GROUPS, widths[0])
        self.output = convolution(widths[0], outputs, 3, padding=1)
        for layer in self.modules():
            # One-cell kernels are matrix products in any layout, and lose theirs in a gradient.
            if isinstance(layer, convolution) and layer.kernel_size[0] > 1:
                layer.to(memory_format=_MEMORY_FORMAT[dimensions])

    @property
    def factor(self) -> int:
        """Return the number that divides the sides of an input."""
        return 2 ** (len(self.down) - 1)

    def forward(self, x: Float[Tensor, "b i *s"], condition: Float[Tensor, "b c"]) -> Float[Tensor, "b o *s"]:
        """Transform each image or volume of the batch under its condition; see `with_summary` for errors."""
        return self.with_summary(x, condition)[0]

    def with_summary(
        self,
        x: Float[Tensor, "b i *s"],
        condition: Float[Tensor, "b c"],
        beside: Float[Tensor, "b h *s"] | None = None,
    ) -> tuple[Float[Tensor, "b o *s"], Float[Tensor, "b w"]]:
        """Transform each image or volume, and summarise it: the mean of its features at the coarsest resolution.

        `beside` is added to the features that the first convolution makes.

        Raises:
            ValueError: a side is not a multiple of `factor`.
        """
        if any(side % self.factor for side in x.shape[2:]):
            sides = "×".join(map(str, x.shape[2:]))
            raise ValueError(f"sides must be multiples of {self.factor}, got {sides}")
        x = self.input(x.contiguous(memory_format=_MEMORY_FORMAT[self.dimensions]))
        if beside is not None:
            x = x + beside
        pool = _POOL[self.dimensions]
        kept: list[Tensor] = []
        for number, block in enumerate(self.down):
            if number > 0:
                kept.append(x)
                x = pool(x, 2)
            x = block(x, condition)
        x = self.middle[1](self.attention(self.middle[0](x, condition)), condition)
        summary = x.flatten(2).mean(dim=2)
        mode = _INTERPOLATION[self.dimensions]
        for narrow, block, beside in zip(self.narrow, self.up, reversed(kept), strict=True):
            x = F.interpolate(narrow(x), scale_factor=2, mode=mode, align_corners=False) + beside
            x = block(x, condition)
        return self.output(F.silu(self.output_norm(x))), summary
