"""Grids of cells placed in scenes: maps from points of a scene to places in [0, 1]³ and back.

A `SceneGrid` positions the grid by the context's cameras (a `GridFrame` for each scene). Every point of the scene
has a place, so that nothing lies outside by accident.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dfm_lightning.ranges import check_above, check_finite
from dfm_lightning.record import Recorded
from dfm_lightning.types import Cameras

# Least distance from a camera's plane at which a point has a place of its own in its frustum.
_LEAST_DEPTH = 1e-3


@runtime_checkable
class GridFrame(Protocol):
    """The position of the grids in a batch of scenes: a NamedTuple of tensors with leading dimension b."""

    def places(self, points: Any) -> Any:
        """Return the places [b n 3] in [0, 1]³, axes (x, y, z), of points [b n 3] of the scenes."""
        ...

    def points(self, places: Any) -> Any:
        """Return the points [b n 3] of the scenes at places [b n 3] inside (0, 1)³."""
        ...


class SceneGrid(Recorded, ABC):
    """A rule that places a grid in each scene, its middle at `distance` from the first camera, in scene units."""

    distance: float

    @abstractmethod
    def frame(self, cameras: Cameras) -> GridFrame:
        """Compute the frames from the context's cameras (leading dimensions b v)."""


class CubeFrame(NamedTuple):
    """A cube or box, in a grid that covers all of space: around it, distances shrink as their inverse.

    Let u be the position in the cube's axes, [-1, 1]³ within it, and m the largest of |u|. A point is at inner · u
    for m ≤ 1, and at (inner + (1 − inner)(1 − 1/m)) · u/m beyond: the contraction of mip-NeRF 360 (eq. 10), for
    the maximum norm and a cube of any share.
    """

    to_cube: Float[Tensor, "b 4 4"]
    inner: float

    def places(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """See `GridFrame`."""
        return self.places_by_axis(points).mT

    def places_by_axis(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b 3 n"]:
        """Compute the same with a row for each axis: long rows are several times faster."""
        with torch.autocast(points.device.type, enabled=False):
            u = torch.baddbmm(self.to_cube[:, :3, 3:], self.to_cube[:, :3, :3], points.mT)
            far = u.abs().amax(dim=1, keepdim=True).clamp(min=1)
            contracted = u * ((self.inner + (1 - self.inner) * (1 - 1 / far)) / far)
            return (contracted + 1) / 2

    def points(self, places: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """See `GridFrame`."""
        with torch.autocast(places.device.type, enabled=False):
            contracted = places * 2 - 1
            reach = contracted.abs().amax(dim=-1, keepdim=True)
            beyond = reach > self.inner
            far = (1 - self.inner) / (1 - torch.where(beyond, reach, self.inner)).clamp(min=1e-6)
            u = torch.where(beyond, contracted / reach * far, contracted / self.inner)
            to_scene = torch.linalg.inv(self.to_cube)
            return torch.baddbmm(to_scene[:, None, :3, 3], u, to_scene[:, :3, :3].mT)


class ObjectCube(SceneGrid):
    """A cube around the point that the first context camera looks at, turned so that the camera faces one side.

    With three different sides it is a box, which suits rooms that the camera will turn in: unlike a frustum, it
    has cells beside the camera and behind it.

    Args:
        distance: from the first camera to the cube's middle, along its optical axis, in scene units.
        half: half of the cube's side, in scene units; or half of each side of a box, to the right, downwards and
            ahead.
        inner: share of the grid, along each side, that the cube takes; the rest of space takes the remainder.
        up: direction in the data set's world (that of `absolute_pose`) in which the cube stands upright; the first
            camera's own vertical if unknown (null).
    """

    def __init__(
        self,
        distance: float,
        half: float | tuple[float, float, float],
        inner: float = 0.8,
        up: tuple[float, float, float] | None = None,
    ) -> None:
        check_above(0, distance=distance, half=half)
        check_finite(up=up)
        if not 0 < inner < 1:
            raise ValueError(f"inner must be between 0 and 1, got {inner}")
        if up is not None and not any(up):
            raise ValueError(f"up must be a direction, got {up}")
        self.distance = distance
        self.half = half
        self.inner = inner
        self.up = up

    def frame(self, cameras: Cameras) -> CubeFrame:
        """See `SceneGrid`."""
        with torch.autocast(cameras.pixels.device.type, enabled=False):
            pose = cameras.camera_to_world[:, 0]
            right, down, forward = pose[:, :3, :3].unbind(dim=-1)
            centre = pose[:, :3, 3] + self.distance * forward
            if self.up is not None:
                up = cameras.absolute_pose[:, 0, :3, :3].mT @ pose.new_tensor(self.up)
                down = -F.normalize((pose[:, :3, :3] @ up[..., None])[..., 0], dim=-1)
            # If the camera looks straight down, the forward direction is the one at the top of its image.
            ahead = forward - 1e-3 * pose[:, :3, 1]
            ahead = F.normalize(ahead - (ahead * down).sum(-1, keepdim=True) * down, dim=-1)
            right = torch.linalg.cross(down, ahead)
            axes = torch.stack([right, down, ahead], dim=1) / pose.new_tensor(self.half).expand(3)[:, None]
            shift = -(axes @ centre[..., None])
            last = pose.new_tensor([[[0.0, 0.0, 0.0, 1.0]]]).expand(len(pose), 1, 4)
            to_cube = torch.cat([torch.cat([axes, shift], dim=2), last], dim=1)
            return CubeFrame(to_cube, self.inner)


class FrustumFrame(NamedTuple):
    """A camera's widened frustum: image position along two axes, inverse depth along the third."""

    world_to_camera: Float[Tensor, "b 4 4"]
    intrinsics: Float[Tensor, "b 3 3"]
    near: float
    far: float
    margin: float

    def places(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """See `GridFrame`. Points beside, behind or beyond the frustum map to the nearest of its sides."""
        with torch.autocast(points.device.type, enabled=False):
            local = torch.baddbmm(self.world_to_camera[:, None, :3, 3], points, self.world_to_camera[:, :3, :3].mT)
            depth = local[..., 2:].clamp(min=_LEAST_DEPTH)
            image = ((local / depth) @ self.intrinsics.mT)[..., :2]
            ahead = (1 / self.near - 1 / depth) / (1 / self.near - 1 / self.far)
            return torch.cat([(image - 0.5) / self.margin + 0.5, ahead], dim=-1).clamp(0, 1)

    def points(self, places: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """See `GridFrame`."""
        with torch.autocast(places.device.type, enabled=False):
            image = (places[..., :2] - 0.5) * self.margin + 0.5
            depth = 1 / (1 / self.near - places[..., 2:] * (1 / self.near - 1 / self.far))
            local = F.pad(image, (0, 1), value=1.0) @ torch.linalg.inv(self.intrinsics).mT * depth
            to_scene = torch.linalg.inv(self.world_to_camera)
            return torch.baddbmm(to_scene[:, None, :3, 3], local, to_scene[:, :3, :3].mT)


class ViewFrustum(SceneGrid):
    """The first context camera's frustum, for scenes that surround the camera: rooms, streets.

    Args:
        near: depth at which the grid begins, in scene units.
        far: depth at which it ends.
        margin: width and height of the frustum as multiples of the image's.
    """

    def __init__(self, near: float, far: float, margin: float = 1.5) -> None:
        if not 0 < near < far:
            raise ValueError(f"near and far must satisfy 0 < near < far, got {near} and {far}")
        check_above(0, near=near, far=far, margin=margin)
        self.near = near
        self.far = far
        self.margin = margin
        self.distance = (near * far) ** 0.5

    def frame(self, cameras: Cameras) -> FrustumFrame:
        """See `SceneGrid`."""
        world_to_camera = torch.linalg.inv(cameras.camera_to_world[:, 0])
        return FrustumFrame(world_to_camera, cameras.intrinsics[:, 0], self.near, self.far, self.margin)
