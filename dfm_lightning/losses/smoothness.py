"""Edge-aware smoothness: neighbouring pixels of one colour have the same disparity, or the same motion."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def edge_aware_smoothness(
    depth: Float[Tensor, "n 1 h w"], image: Float[Tensor, "n c h w"], min_depth: float, max_depth: float
) -> Float[Tensor, ""]:
    """|∂ disparity| exp(−|∂ image|), averaged over the pixels of patches (Godard et al. 2017, eq. 5).

    Disparity is 1 / depth, the depth clamped to the given range, divided by its mean over the patch, so that
    the scene's size does not matter. Differences are forward ones, zero at the last row and column; the image's
    are averaged over its channels. `image` in [−1, 1] sets the strength of the edges. The clamp's lower end
    decides how much rays of no depth weigh: at the authors' 1e-3 a single one dominates its patch.
    """
    with torch.autocast(depth.device.type, enabled=False):
        dtype = torch.promote_types(depth.dtype, torch.float32)
        disparity = 1 / depth.to(dtype).clamp(min_depth, max_depth)
        disparity = disparity / disparity.mean(dim=(2, 3), keepdim=True)
        return _weighted_changes(disparity, image.to(dtype), edge_strength=1.0)


def edge_aware_flow_smoothness(
    flow: Float[Tensor, "n 2 h w"], image: Float[Tensor, "n c h w"], edge_strength: float = 1.0
) -> Float[Tensor, ""]:
    """|∂ flow| exp(−strength |∂ image|), averaged over pixels and both components: as for disparity.

    The flow is in pixels, of the image's own pixels. With `image` in [−1, 1], a strength of 1 is that of
    `edge_aware_smoothness`: the sharpest edge lowers the price of a change to exp(−2). Optical flow without
    supervision takes more, so that a motion may end at the edge of what moves.
    """
    with torch.autocast(flow.device.type, enabled=False):
        dtype = torch.promote_types(flow.dtype, torch.float32)
        return _weighted_changes(flow.to(dtype), image.to(dtype), edge_strength)


def _weighted_changes(
    values: Float[Tensor, "n k h w"], image: Float[Tensor, "n c h w"], edge_strength: float
) -> Float[Tensor, ""]:
    across = _weighted_change(values, image, edge_strength, dim=3)
    down = _weighted_change(values, image, edge_strength, dim=2)
    return (F.pad(across, (0, 1, 0, 0)) + F.pad(down, (0, 0, 0, 1))).mean()


def _weighted_change(
    values: Float[Tensor, "n k h w"], image: Float[Tensor, "n c h w"], edge_strength: float, dim: int
) -> Float[Tensor, "n k _ _"]:
    edges = image.diff(dim=dim).abs().mean(dim=1, keepdim=True)
    return values.diff(dim=dim).abs() * torch.exp(-edge_strength * edges)
