"""The points that a scene's views show."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfm_lightning.baking import BakedScene
from dfm_lightning.geometry.rays import ray_directions, ray_origins
from dfm_lightning.types import Cameras, select_views


class PointCloud(NamedTuple):
    """Points in the scene's axes; colours in [0, 1]."""

    points: Float[Tensor, "n 3"]
    colours: Float[Tensor, "n 3"]


def point_cloud(scene: BakedScene, cameras: Cameras) -> PointCloud:
    """Return where the light of the views' pixels comes from, at most one point in each cell of the grid.

    A pixel's point lies where half of what its ray sees is in front of it, so that rays which graze an edge give a
    point on one of its two sides and none in the air between; pixels that see mostly background give none. Points
    of several pixels in one cell become their mean.

    Args:
        scene: the scene.
        cameras: of one scene's views, a batch of one, pixel centres exact.
    """
    points, colours = [], []
    for view in range(cameras.pixels.shape[1]):
        camera = select_views(cameras, slice(view, view + 1))
        observed = scene.renderer.observe(scene.field, camera)
        details = observed.auxiliary
        opacity = details.opacity[0, 0, 0]
        behind = details.weights[0, 0].cumsum(dim=-1) >= opacity[..., None] / 2
        middle = behind.int().argmax(dim=-1, keepdim=True)
        distance = details.distances[0, 0].gather(-1, middle)
        place = ray_origins(camera)[0, 0] + distance * ray_directions(camera)[0, 0]
        solid = opacity > 0.5
        points.append(place[solid])
        colours.append((observed.observation[0, 0].movedim(0, -1)[solid] + 1) / 2)
    return PointCloud(*_means_of_cells(scene, torch.cat(points), torch.cat(colours)))


def _means_of_cells(
    scene: BakedScene, points: Float[Tensor, "n 3"], colours: Float[Tensor, "n 3"]
) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"]]:
    cell = (scene.field.frame.places(points[None])[0] * scene.field.resolution).long()
    _, group, count = cell.unique(dim=0, return_inverse=True, return_counts=True)
    return _mean(points, group, count), _mean(colours, group, count)


def _mean(
    values: Float[Tensor, "n 3"], group: Int[Tensor, " n"], count: Int[Tensor, " m"]
) -> Float[Tensor, "m 3"]:
    return values.new_zeros(len(count), 3).index_add_(0, group, values) / count[:, None]
