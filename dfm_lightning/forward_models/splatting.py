"""Forward warping: every pixel of an image is moved by its flow and added to the four pixels around its target.

Conventions: flow channel 0 is the displacement to the right, channel 1 down, in pixels; a pixel at (x, y) goes to
(x, y) + flow(x, y). Each of the four bilinear corners is dropped separately if it lies outside the frame. Pixels
whose flow is not finite are left out. If a target is a whole number the flow's gradient is the right-hand one.

Pixels meet in four ways (Niklaus and Liu 2020, section 3.1): they add up, or they are averaged, evenly or with
weights, given directly or by their logarithms.
"""

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# Splatting is the adjoint of bilinear sampling: it writes where sampling reads. PyTorch has fast kernels for both,
# the latter as the gradient of its `grid_sample`.
_OPTIONS = (0, 0, False)  # bilinear, zeros outside, corners not aligned
# In its coordinates, more than a frame away from the frame.
_OUTSIDE = 4.0
_sample = torch.ops.aten.grid_sampler_2d
_sample_backward = torch.ops.aten.grid_sampler_2d_backward

Empty = Literal["zero", "add", "clip"]


class Splatted(NamedTuple):
    """A forward-warped image, and the weight that each pixel collected: 0 where nothing arrived (a hole)."""

    image: Float[Tensor, "b c h w"]
    weight: Float[Tensor, "b 1 h w"]


def splat_sum(image: Float[Tensor, "b c h w"], flow: Float[Tensor, "b 2 h w"]) -> Splatted:
    """Sum the pixels that meet; the bilinear shares are the weight."""
    return _accumulate(image, flow, torch.ones_like(flow[:, :1]))


def splat_average(
    image: Float[Tensor, "b c h w"], flow: Float[Tensor, "b 2 h w"], empty: Empty = "zero"
) -> Splatted:
    """Average the pixels that meet by their bilinear shares. For `empty` see `normalised`."""
    return normalised(splat_sum(image, flow), empty)


def splat_linear(
    image: Float[Tensor, "b c h w"],
    flow: Float[Tensor, "b 2 h w"],
    weight: Float[Tensor, "b 1 h w"],
    empty: Empty = "zero",
) -> Splatted:
    """Average the pixels that meet, each with its weight (not negative). For `empty` see `normalised`."""
    return normalised(_accumulate(image, flow, weight), empty)


def splat_softmax(
    image: Float[Tensor, "b c h w"],
    flow: Float[Tensor, "b 2 h w"],
    importance: Float[Tensor, "b 1 h w"],
    empty: Empty = "zero",
) -> Splatted:
    """Average the pixels that meet, each with the weight exp(importance), so that the important ones win.

    The exponential is not rescaled: keep the importance within about ±20. For `empty` see `normalised`.
    """
    return splat_linear(image, flow, importance.to(_working_dtype(importance)).exp(), empty)


def normalised(splatted: Splatted, empty: Empty) -> Splatted:
    """Divide by the collected weight, which is returned unchanged.

    Args:
        splatted: sums of weighted pixels and of weights.
        empty: how division by a weight of zero is avoided. "zero": it is replaced by 1, holes are exactly 0.
            "add": 1e-7 is added to every weight. "clip": weights below 1e-7 are raised to it. The last two are for
            networks trained that way; the gradients at almost empty pixels are huge.
    """
    total = splatted.weight
    if empty == "zero":
        divisor = torch.where(total == 0, 1.0, total)
    else:
        divisor = total + 1e-7 if empty == "add" else total.clamp(min=1e-7)
    # A product with the inverse: its backward pass divides one channel instead of all.
    return splatted._replace(image=splatted.image * divisor.reciprocal())


def _working_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the precision of the computation: the widest of the inputs, but at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _accumulate(
    image: Float[Tensor, "b c h w"], flow: Float[Tensor, "b 2 h w"], weight: Float[Tensor, "b 1 h w"]
) -> Splatted:
    dtype = _working_dtype(image, flow, weight)
    with torch.autocast(image.device.type, enabled=False):
        return Splatted(*_Accumulate.apply(image.to(dtype), flow.to(dtype), weight.to(dtype)))


class _Accumulate(torch.autograd.Function):
    """Σ weight · share · pixel and Σ weight · share over the pixels that reach each target."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, flow: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Sum pixels and weights from image [b c h w], flow [b 2 h w] and weight [b 1 h w]."""
        ctx.save_for_backward(image, flow, weight)
        if flow.numel() == 0:
            return torch.zeros_like(image), torch.zeros_like(weight)
        values, height, width = _weighted(image, weight), *flow.shape[2:]
        # Only its size matters: nothing is read from the frame.
        frame = values.new_zeros(()).expand(*values.shape[:2], *_frame_size(height, width))
        sums, _ = _sample_backward(values, frame, _targets(flow), *_OPTIONS, [True, False])
        sums = sums[..., :height, :width]
        return sums[:, :-1], sums[:, -1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sum: Tensor, grad_total: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sample the gradients at the targets; compute how these, times the values, change with the targets."""
        image, flow, weight = ctx.saved_tensors
        if flow.numel() == 0:
            return torch.zeros_like(image), torch.zeros_like(flow), torch.zeros_like(weight)
        (batch, channels), (height, width) = image.shape[:2], flow.shape[2:]
        frame_height, frame_width = _frame_size(height, width)
        frame = image.new_zeros(batch, channels + 1, frame_height, frame_width)
        frame[:, :-1, :height, :width] = grad_sum
        frame[:, -1:, :height, :width] = grad_total
        targets = _targets(flow)
        _, grad_targets = _sample_backward(_weighted(image, weight), frame, targets, *_OPTIONS, [False, True])
        grad_flow = torch.empty_like(flow)
        for axis, size in enumerate((frame_width, frame_height)):
            torch.mul(grad_targets[..., axis], 2 / size, out=grad_flow[:, axis])
        sampled = _sample(frame, targets, *_OPTIONS)
        grad_weight = (sampled[:, :-1] * image).sum(1, keepdim=True).add_(sampled[:, -1:])
        return sampled[:, :-1] * weight, grad_flow, grad_weight


def _weighted(image: Float[Tensor, "b c h w"], weight: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b k h w"]:
    """Return weighted pixels and, as the last channel, their weights."""
    batch, channels, height, width = image.shape
    values = image.new_empty(batch, channels + 1, height, width)
    torch.mul(image, weight, out=values[:, :-1])
    values[:, -1:] = weight
    return values


def _frame_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of the frame that pixels are splatted into, the image in its upper left corner.

    They are powers of two, so that whole pixels stay whole in `grid_sample`'s coordinates, and no motion changes
    nothing.
    """
    return 1 << (height - 1).bit_length(), 1 << (width - 1).bit_length()


def _targets(flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b h w 2"]:
    """Return the pixels' targets in `grid_sample`'s coordinates: the frame is from -1 to 1.

    Targets that are not finite go outside the frame, and none goes farther than that.
    """
    batch, _, height, width = flow.shape
    targets = flow.new_empty(batch, height, width, 2)
    for axis, size, shape in ((0, width, (1, width)), (1, height, (height, 1))):
        frame = _frame_size(size, size)[0]
        start = (torch.arange(size, dtype=flow.dtype, device=flow.device).view(shape) * 2 + 1) / frame - 1
        torch.add(start, flow[:, axis], alpha=2 / frame, out=targets[..., axis])
    return targets.clamp_(-_OUTSIDE, _OUTSIDE).nan_to_num_(nan=_OUTSIDE)
