"""Forward warping: every pixel of an image is moved by its flow and added to the four pixels around its target.

Conventions: flow channel 0 is the displacement to the right, channel 1 down, in pixels; a pixel at (x, y) goes
to (x, y) + flow(x, y). Each of the four bilinear corners is dropped by itself where it lies outside the frame.
A pixel whose flow is not finite is left out. Where a target is a whole number the flow's gradient is the
right-hand one.

Pixels meet in four ways (Niklaus and Liu 2020, section 3.1): they add up, or they are averaged, evenly or with
weights, given as they are or by their logarithms.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

# Around the frame lie two empty rows above and below and two empty columns on the left and one on the right.
# What leaves the frame falls there, so that no corner of any pixel needs a test of its own; a corner to the
# right of the last column falls on the left border of the next row.
BORDER = 2
RIGHT = 1

# On a CPU, pixels are worked off in parts of about this many numbers, which stay in its cache.
CPU_PART = 1 << 18

Empty = Literal["zero", "add", "clip"]


class Splatted(NamedTuple):
    """A forward-warped image, and the weight each of its pixels collected: 0 where nothing arrived (a hole)."""

    image: Float[Tensor, "b c h w"]
    weight: Float[Tensor, "b 1 h w"]


def splat_sum(image: Float[Tensor, "b c h w"], flow: Float[Tensor, "b 2 h w"]) -> Splatted:
    """Pixels that meet add up; the bilinear shares are the weight."""
    return Splatted(*_accumulate(image, flow, torch.ones_like(image[:, :1])))


def splat_average(
    image: Float[Tensor, "b c h w"], flow: Float[Tensor, "b 2 h w"], empty: Empty = "zero"
) -> Splatted:
    """Pixels that meet are averaged by their bilinear shares. For `empty` see `normalised`."""
    return normalised(splat_sum(image, flow), empty)


def splat_linear(
    image: Float[Tensor, "b c h w"],
    flow: Float[Tensor, "b 2 h w"],
    weight: Float[Tensor, "b 1 h w"],
    empty: Empty = "zero",
) -> Splatted:
    """Pixels that meet are averaged, each with its weight (not negative). For `empty` see `normalised`."""
    return normalised(Splatted(*_accumulate(image, flow, weight)), empty)


def splat_softmax(
    image: Float[Tensor, "b c h w"],
    flow: Float[Tensor, "b 2 h w"],
    importance: Float[Tensor, "b 1 h w"],
    empty: Empty = "zero",
) -> Splatted:
    """Pixels that meet are averaged, each with the weight exp(importance), so that the important ones win.

    The exponential is taken as it is: keep the importance within about ±20. For `empty` see `normalised`.
    """
    return splat_linear(image, flow, importance.to(_working_dtype(importance)).exp(), empty)


def normalised(splatted: Splatted, empty: Empty) -> Splatted:
    """Divide by the collected weight, which stays as it is.

    Args:
        splatted: sums of weighted pixels and of weights.
        empty: how a weight of zero is kept from being divided by. "zero": replaced by 1, holes are exactly
            0. "add": 1e-7 is added to every weight. "clip": weights below 1e-7 are raised to it. The last two
            are for networks trained that way; the gradients at almost empty pixels are huge.
    """
    total = splatted.weight
    if empty == "zero":
        divisor = torch.where(total == 0, 1.0, total)
    else:
        divisor = total + 1e-7 if empty == "add" else total.clamp(min=1e-7)
    # A product with the inverse: its backward pass is a division of one channel instead of all.
    return splatted._replace(image=splatted.image * divisor.reciprocal())


def _working_dtype(*tensors: Tensor) -> torch.dtype:
    """The precision of the computation: the widest of the inputs, but at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _accumulate(image: Tensor, flow: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    dtype = _working_dtype(image, flow, weight)
    with torch.autocast(image.device.type, enabled=False):
        return _Accumulate.apply(image.to(dtype), flow.to(dtype), weight.to(dtype))


class _Targets(NamedTuple):
    """Where pixels go: index of the upper left corner in the bordered frame, and the place within the cell."""

    upper_left: Int[Tensor, "b n"]
    right: Float[Tensor, "b n"]
    down: Float[Tensor, "b n"]

    def shares(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The bilinear weights of the corners: upper left, upper right, lower left, lower right."""
        lower_right = self.right * self.down
        upper_right, lower_left = self.right - lower_right, self.down - lower_right
        return 1 - self.right - lower_left, upper_right, lower_left, lower_right


def _targets(flow: Float[Tensor, "b 2 h w"]) -> _Targets:
    """Everything that misses the frame, or is not finite, goes to the border."""
    height, width = flow.shape[2:]
    x = flow[:, 0] + torch.arange(width, dtype=flow.dtype, device=flow.device)
    y = flow[:, 1] + torch.arange(height, dtype=flow.dtype, device=flow.device)[:, None]
    known = torch.isfinite(x) & torch.isfinite(y)
    x = torch.where(known, x, -BORDER).clamp(-BORDER, width)
    y = torch.where(known, y, -BORDER).clamp(-BORDER, height)
    column, row = x.floor(), y.floor()
    # In integers: float32 counts exactly only up to 2²⁴.
    index = (row.long() + BORDER) * (width + BORDER + RIGHT) + column.long() + BORDER
    return _Targets(index.flatten(1), (x - column).flatten(1), (y - row).flatten(1))


def _corner_offsets(width: int) -> tuple[int, int, int, int]:
    """How far behind the upper left corner each corner lies in the bordered frame."""
    row = width + BORDER + RIGHT
    return 0, 1, row, row + 1


def _bordered(like: Tensor, planes: tuple[int, ...], height: int, width: int) -> tuple[Tensor, Tensor]:
    """Planes of zeros with the border: flat (with one number to spare for the last corner), and their frame."""
    rows, columns = height + 2 * BORDER, width + BORDER + RIGHT
    flat = like.new_zeros(*planes, rows * columns + 1)
    frame = flat[..., :-1].view(*planes, rows, columns)
    return flat, frame[..., BORDER : BORDER + height, BORDER : BORDER + width]


class _Part(NamedTuple):
    """Some images of a batch, and their channels in groups."""

    images: slice
    channels: list[slice]


def _parts(image: Float[Tensor, "b c h w"]) -> Iterator[_Part]:
    """The batch as it is worked off: at once on an accelerator, in pieces that fit the cache on a CPU."""
    batch, channels, height, width = image.shape
    planes = max(1, batch * channels)
    if image.device.type == "cpu":
        planes = max(1, CPU_PART // max(1, height * width))
    images, group = max(1, planes // max(1, channels)), max(1, min(channels, planes))
    groups = [slice(start, start + group) for start in range(0, channels, group)]
    for start in range(0, batch, images):
        yield _Part(slice(start, start + images), groups)


class _Accumulate(torch.autograd.Function):
    """Σ weight · share · pixel and Σ weight · share over the pixels that reach each target.

    One index serves the four corners, channels and both sums; the targets are computed again in the backward
    pass, which is cheaper than to keep them.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, flow: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Image [b c h w], flow [b 2 h w] and weight [b 1 h w] to sums of pixels and of weights."""
        ctx.save_for_backward(image, flow, weight)
        batch, channels, height, width = image.shape
        flat_sum, pixel_sum = _bordered(image, (batch, channels), height, width)
        flat_total, total = _bordered(image, (batch,), height, width)
        offsets = _corner_offsets(width)
        for part in _parts(image):
            targets = _targets(flow[part.images])
            strength = weight[part.images].flatten(1)
            shares = [share * strength for share in targets.shares()]
            for offset, share in zip(offsets, shares, strict=True):
                flat_total[part.images, offset:].scatter_add_(1, targets.upper_left, share)
            for group in part.channels:
                pixels = image[part.images, group].flatten(2)
                index = targets.upper_left[:, None].expand_as(pixels)
                sums, moved = flat_sum[part.images, group], torch.empty_like(pixels)
                for offset, share in zip(offsets, shares, strict=True):
                    torch.mul(pixels, share[:, None], out=moved)
                    sums[..., offset:].scatter_add_(2, index, moved)
        return pixel_sum, total[:, None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sum: Tensor, grad_total: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gather the gradients at the four corners; what weight and flow need is their product with the pixels."""
        image, flow, weight = ctx.saved_tensors
        height, width = image.shape[2:]
        offsets = _corner_offsets(width)
        grad_image, grad_flow, grad_weight = (torch.empty_like(t) for t in (image, flow, weight))
        for part in _parts(image):
            targets = _targets(flow[part.images])
            strength = weight[part.images].flatten(1)
            shares = targets.shares()
            flat, frame = _bordered(image, (len(strength),), height, width)
            frame.copy_(grad_total[part.images, 0])
            # For each corner: how the loss changes with what this pixel, at full weight, adds there.
            pull = [flat[:, offset:].gather(1, targets.upper_left) for offset in offsets]
            for group in part.channels:
                pixels = image[part.images, group].flatten(2)
                index = targets.upper_left[:, None].expand_as(pixels)
                flat, frame = _bordered(image, tuple(pixels.shape[:2]), height, width)
                frame.copy_(grad_sum[part.images, group])
                corner, total = torch.empty_like(pixels), torch.zeros_like(pixels)
                for offset, share, corner_pull in zip(offsets, shares, pull, strict=True):
                    torch.gather(flat[..., offset:], 2, index, out=corner)
                    total.addcmul_(corner, (share * strength)[:, None])
                    corner_pull += corner.mul_(pixels).sum(1)
                grad_image[part.images, group] = total.view_as(grad_image[part.images, group])
            grad_flow[part.images] = _flow_gradient(pull, targets, strength).view_as(grad_flow[part.images])
            change = torch.stack([share * p for share, p in zip(shares, pull, strict=True)]).sum(0)
            grad_weight[part.images] = change.view_as(grad_weight[part.images])
        return grad_image, grad_flow, grad_weight


def _flow_gradient(pull: list[Tensor], targets: _Targets, strength: Tensor) -> Float[Tensor, "b 2 n"]:
    """Derivatives of Σ share · pull by the place within the cell."""
    upper_left, upper_right, lower_left, lower_right = pull
    x = torch.lerp(upper_right - upper_left, lower_right - lower_left, targets.down)
    y = torch.lerp(lower_left - upper_left, lower_right - upper_right, targets.right)
    return torch.stack([x, y], dim=1) * strength[:, None]
