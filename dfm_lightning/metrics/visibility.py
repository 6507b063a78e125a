"""Find the parts of a scene that a view has seen, by the scene's own depth."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from dfm_lightning.geometry.rays import project_points, ray_directions, ray_origins, transform_points
from dfm_lightning.types import Cameras


def seen_from(
    distance: Float[Tensor, "b v 1 h w"],
    cameras: Cameras,
    context_distance: Float[Tensor, "b c 1 h2 w2"],
    context_cameras: Cameras,
    tolerance: float = 0.05,
) -> Bool[Tensor, "b v 1 h w"]:
    """Tell whether the surface behind each pixel of v views is visible from any of c context views.

    A point is visible if it projects into the context image, in front of the camera, and is not farther away than
    the surface that the context view sees there, within a relative tolerance. Distances are along the unit ray, to
    the surface, and the cameras' pixels cover whole images.
    """
    directions = ray_directions(cameras)
    points = ray_origins(cameras)[:, :, None, None] + distance[:, :, 0, ..., None] * directions
    local = transform_points(torch.linalg.inv(context_cameras.camera_to_world), points.flatten(1, 3))
    position = project_points(context_cameras.intrinsics, local)
    inside = ((position >= 0) & (position <= 1)).all(dim=-1) & (local[..., 2] > 0)
    surface = F.grid_sample(
        context_distance.flatten(0, 1),
        (2 * position - 1).flatten(0, 1)[:, None],
        padding_mode="border",
        align_corners=False,
    ).view(inside.shape)
    in_sight = inside & (local.norm(dim=-1) <= (1 + tolerance) * surface)
    return in_sight.any(dim=1).view(distance.shape)
