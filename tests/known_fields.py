"""Radiance fields known in closed form."""

from collections.abc import Callable

import torch
from torch import Tensor

from dfm_lightning.geometry.cameras import pixel_grid
from dfm_lightning.signals import FieldStage, FieldValues
from dfm_lightning.types import Cameras


class KnownField:
    """A field given by functions of points; counts the points it is asked for."""

    floats_per_point = 16

    def __init__(self, density: Callable[[Tensor], Tensor], colour: Callable[[Tensor], Tensor]) -> None:
        self.density = density
        self.colour = colour
        self.stages: list[str] = []
        self.sizes: list[int] = []

    def query(self, points: Tensor, stage: FieldStage) -> FieldValues:
        self.stages.append(stage)
        self.sizes.append(points.shape[1])
        return FieldValues(self.colour(points), self.density(points), points[..., :2])


def position_colour(points: Tensor) -> Tensor:
    return points.sigmoid()


def cameras_at(positions: list[list[float]], size: int, dtype: torch.dtype = torch.float64) -> Cameras:
    """One scene's cameras at positions, all looking along +z with a field of view of 53°."""
    views = len(positions)
    pose = torch.eye(4, dtype=dtype).repeat(1, views, 1, 1)
    pose[0, :, :3, 3] = torch.tensor(positions, dtype=dtype)
    intrinsics = torch.tensor([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]], dtype=dtype).repeat(1, views, 1, 1)
    pixels = pixel_grid(size, size).to(dtype).repeat(1, views, 1, 1, 1)
    return Cameras(pose, intrinsics, pose, pixels)
