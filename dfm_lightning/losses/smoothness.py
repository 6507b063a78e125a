"""Edge-aware smoothness: neighbouring pixels of one colour share their disparity, or their motion."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def edge_aware_smoothness(
    depth: Float[Tensor, "n 1 h w"], image: Float[Tensor, "n c h w"], min_depth: float, max_depth: float
) -> Float[Tensor, ""]:
    """Average |∂ disparity| exp(−|∂ image|) over the pixels of patches (Godard et al. 2017, eq. 5).

    Disparity is 1 / depth, with depth clamped to the given range, divided by its mean over the patch, so that the
    scene's size does not matter. Differences are forward ones, zero at the last row and column; the image's are
    averaged over its channels. `image` in [−1, 1] sets the strength of the edges. The clamp's lower end decides
    how much rays of no depth weigh: at the original 1e-3 a single one dominates its patch.
    """
    with torch.autocast(depth.device.type, enabled=False):
        dtype = torch.promote_types(depth.dtype, torch.float32)
        disparity = 1 / depth.to(dtype).clamp(min_depth, max_depth)
        disparity = disparity / disparity.mean(dim=(2, 3), keepdim=True)
        return _weighted_changes(disparity, image.to(dtype), edge_strength=1.0)


def edge_aware_flow_smoothness(
    flow: Float[Tensor, "n 2 h w"], image: Float[Tensor, "n c h w"], edge_strength: float = 1.0
) -> Float[Tensor, ""]:
    """Average |∂ flow| exp(−strength |∂ image|) over pixels and both components, as for disparity.

    The flow is in the image's pixels. With `image` in [−1, 1], a strength of 1 is that of `edge_aware_smoothness`:
    the sharpest edge reduces the cost of a change by exp(−2). Unsupervised optical flow uses larger strengths, so
    that a motion may end at the edge of the moving object.
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
