"""Points along a query camera's rays, and where other cameras see them: the geometry of epipolar features.

The scene's axes are here those of the query camera as PyTorch3D has them (x left, y up, z forward), with its
centre at the origin, as in SparseFusion (Zhou and Tulsiani 2023): what a network is told of rays then does not
depend on the world that cameras are given in.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.geometry.cameras import invert_pose

# Nothing is projected from nearer to a camera's plane: the division has to be finite.
_LEAST_DEPTH = 1e-9


class EpipolarPoints(NamedTuple):
    """Points on each of n rays of a query camera, d to a ray, and their positions in v context images.

    `directions` have a z component of 1, so that `depths` are depths along the camera's axis. `centres` are the
    context cameras' centres. `positions` are (x, y), [0, 1] within the image.
    """

    directions: Float[Tensor, "b n 3"]
    depths: Float[Tensor, "b d"]
    points: Float[Tensor, "b n d 3"]
    centres: Float[Tensor, "b v 3"]
    positions: Float[Tensor, "b v n d 2"]


def ray_grid(rows: int, columns: int, height: int, width: int, at_corners: bool) -> Float[Tensor, "r c 2"]:
    """Return image positions (x, y) in [0, 1] of a coarse grid of rays through an image.

    Args:
        rows: rays along y.
        columns: rays along x.
        height: of the image, in pixels.
        width: of the image, in pixels.
        at_corners: whether the outermost rays go through the centres of the image's outermost pixels, as in
            SparseFusion's code, instead of all of them through the centres of equal patches, as in the thesis.
    """

    def along(count: int, size: int) -> Tensor:
        if not at_corners:
            return (torch.arange(count, dtype=torch.float64) + 0.5) / count
        return torch.linspace(0.5 / size, 1 - 0.5 / size, count, dtype=torch.float64)

    y, x = torch.meshgrid(along(rows, height), along(columns, width), indexing="ij")
    return torch.stack([x, y], dim=-1)


def epipolar_points(
    camera_to_world: Float[Tensor, "b 4 4"],
    intrinsics: Float[Tensor, "b 3 3"],
    pixels: Float[Tensor, "b n 2"],
    depths: Float[Tensor, "b d"],
    context_to_world: Float[Tensor, "b v 4 4"],
    context_intrinsics: Float[Tensor, "b v 3 3"],
) -> EpipolarPoints:
    """Place points along the rays through a query camera's pixels, and project them into context views.

    A point behind a context camera appears mirrored, as in SparseFusion. Computed in the inputs' precision.

    Args:
        camera_to_world: the query camera's pose, OpenCV axes.
        intrinsics: the query camera's, normalised.
        pixels: image positions (x, y) in [0, 1].
        depths: of the points, along the query camera's axis, in scene units.
        context_to_world: the context cameras' poses.
        context_intrinsics: the context cameras'.
    """
    with torch.autocast(pixels.device.type, enabled=False):
        flip = pixels.new_tensor([-1.0, -1.0, 1.0])
        homogeneous = torch.nn.functional.pad(pixels, (0, 1), value=1.0)
        directions = homogeneous @ torch.linalg.inv(intrinsics).mT * flip
        points = directions[:, :, None] * depths[:, None, :, None]
        to_query = invert_pose(camera_to_world)[:, None] @ context_to_world
        centres = to_query[..., :3, 3] * flip
        to_context = invert_pose(to_query)
        seen = torch.einsum("bvij,bndj->bvndi", to_context[..., :3, :3], points * flip)
        seen = seen + to_context[..., None, None, :3, 3]
        image = torch.einsum("bvij,bvndj->bvndi", context_intrinsics, seen)
        depth = image[..., 2:]
        depth = torch.where(depth.abs() < _LEAST_DEPTH, _LEAST_DEPTH, depth)
        return EpipolarPoints(directions, depths, points, centres, image[..., :2] / depth)


def pluecker(origins: Float[Tensor, "*#b 3"], unit: Float[Tensor, "*#b 3"]) -> Float[Tensor, "*b 6"]:
    """Return Plücker coordinates of rays through origins o with unit directions d: d and the moment o × d."""
    origins, unit = torch.broadcast_tensors(origins, unit)
    return torch.cat([unit, torch.linalg.cross(origins, unit)], dim=-1)
