"""Rays through pixels, and the projection of points into views.

Everything here stays in the precision of its inputs, at least float32, also under mixed precision.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.types import Cameras


def corner_aligned_intrinsics(intrinsics: Float[Tensor, "*v 3 3"], size: int) -> Float[Tensor, "*v 3 3"]:
    """Intrinsics under which pixel centres (i + ½)/N see what the given ones see at i/(N − 1), for N = `size`.

    Models trained with the outer pixels' centres at 0 and 1 (`linspace(0, 1, N)`, `align_corners=True`) see a
    field of view stretched by N/(N − 1). With these intrinsics the same geometry is written in pixel centres.
    """
    to_centres = torch.tensor(
        [[(size - 1) / size, 0, 0.5 / size], [0, (size - 1) / size, 0.5 / size], [0, 0, 1]],
        dtype=intrinsics.dtype,
        device=intrinsics.device,
    )
    return to_centres @ intrinsics


def ray_directions(cameras: Cameras) -> Float[Tensor, "*v h w 3"]:
    """Unit vectors, in the scene's axes, from each camera's centre through each of its `pixels`."""
    with torch.autocast(cameras.pixels.device.type, enabled=False):
        pixels = torch.nn.functional.pad(cameras.pixels, (0, 1), value=1.0)
        rotation = cameras.camera_to_world[..., :3, :3]
        to_scene = rotation @ torch.linalg.inv(cameras.intrinsics)
        directions = torch.einsum("...ij,...hwj->...hwi", to_scene, pixels)
        return torch.nn.functional.normalize(directions, dim=-1)


def ray_origins(cameras: Cameras) -> Float[Tensor, "*v 3"]:
    """The camera centres in the scene."""
    return cameras.camera_to_world[..., :3, 3]


def transform_points(
    matrices: Float[Tensor, "b v 4 4"], points: Float[Tensor, "b n 3"]
) -> Float[Tensor, "b v n 3"]:
    """Points of each scene in the axes of each of its views (`matrices` are world-to-camera)."""
    with torch.autocast(points.device.type, enabled=False):
        rotated = points[:, None] @ matrices[..., :3, :3].mT
        return rotated + matrices[..., None, :3, 3]


def project_points(
    intrinsics: Float[Tensor, "*v 3 3"], points: Float[Tensor, "*v n 3"]
) -> Float[Tensor, "*v n 2"]:
    """Image positions (x, y), [0, 1] within the image, of points in camera axes.

    A point behind the camera appears mirrored; one in the camera's plane, far outside the image. All values
    are finite.
    """
    with torch.autocast(points.device.type, enabled=False):
        homogeneous = points @ intrinsics.mT
        depth = homogeneous[..., 2:] + 1e-9
        return (homogeneous[..., :2] / depth).nan_to_num(0.0, posinf=1e6, neginf=-1e6)
