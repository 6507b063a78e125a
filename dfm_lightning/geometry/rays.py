"""Rays through pixels, and the projection of points into views.

Everything here stays in the precision of its inputs, at least float32, also under mixed precision.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dfm_lightning.types import Cameras


def corner_aligned(cameras: Cameras) -> Cameras:
    """Adjust cameras so that pixel centres (i + ½)/N see what those of the given cameras see at i/(N − 1).

    Models trained with the outer pixels' centres at 0 and 1 (`linspace(0, 1, N)`, `align_corners=True`) see a
    field of view stretched by N/(N − 1). The returned cameras describe the same geometry in pixel centres, by
    other intrinsics. N, along each axis, follows from the distance of neighbouring `pixels`, so that a patch of an
    image sees what the whole image sees there.

    Raises:
        ValueError: there is one row or column of pixels, whose distance to the next is unknown.
    """
    if min(cameras.pixels.shape[-3:-1]) < 2:
        height, width = cameras.pixels.shape[-3:-1]
        raise ValueError(f"corner-aligned pixels must be at least 2×2, got {height}×{width}")
    with torch.autocast(cameras.pixels.device.type, enabled=False):
        first = cameras.pixels[..., 0, 0, :]
        following = torch.stack([cameras.pixels[..., 0, 1, 0], cameras.pixels[..., 1, 0, 1]], dim=-1)
        count = (1 / (following - first)).round().to(cameras.intrinsics)
        to_centres = torch.eye(3).to(cameras.intrinsics).repeat(*count.shape[:-1], 1, 1)
        to_centres[..., :2, :2] = torch.diag_embed((count - 1) / count)
        to_centres[..., :2, 2] = 0.5 / count
        return cameras._replace(intrinsics=to_centres @ cameras.intrinsics)


def ray_directions(cameras: Cameras) -> Float[Tensor, "*v h w 3"]:
    """Return unit vectors, in the scene's axes, from each camera's centre through each of its `pixels`."""
    with torch.autocast(cameras.pixels.device.type, enabled=False):
        pixels = torch.nn.functional.pad(cameras.pixels, (0, 1), value=1.0)
        rotation = cameras.camera_to_world[..., :3, :3]
        to_scene = rotation @ torch.linalg.inv(cameras.intrinsics)
        directions = torch.einsum("...ij,...hwj->...hwi", to_scene, pixels)
        return torch.nn.functional.normalize(directions, dim=-1)


def ray_origins(cameras: Cameras) -> Float[Tensor, "*v 3"]:
    """Return the camera centres in the scene."""
    return cameras.camera_to_world[..., :3, 3]


def transform_points(
    matrices: Float[Tensor, "b v 4 4"], points: Float[Tensor, "b n 3"]
) -> Float[Tensor, "b v n 3"]:
    """Transform points of each scene into the axes of each of its views (`matrices` are world-to-camera)."""
    with torch.autocast(points.device.type, enabled=False):
        rotated = points[:, None] @ matrices[..., :3, :3].mT
        return rotated + matrices[..., None, :3, 3]


def project_points(
    intrinsics: Float[Tensor, "*v 3 3"], points: Float[Tensor, "*v n 3"]
) -> Float[Tensor, "*v n 2"]:
    """Project points in camera axes to image positions (x, y), [0, 1] within the image.

    A point behind the camera appears mirrored; one in the camera's plane, far outside the image. All values are
    finite.
    """
    with torch.autocast(points.device.type, enabled=False):
        homogeneous = points @ intrinsics.mT
        depth = homogeneous[..., 2:] + 1e-9
        return (homogeneous[..., :2] / depth).nan_to_num(0.0, posinf=1e6, neginf=-1e6)


def in_image(positions: Float[Tensor, "*v n 2"]) -> Bool[Tensor, "*v n"]:
    """Tell which image positions lie within the image; see `project_points` for points behind the camera."""
    return ((positions > 0) & (positions < 1)).all(dim=-1)
