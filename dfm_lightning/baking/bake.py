"""From a radiance field that is computed to one that is stored."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dfm_lightning.baking.baked_field import (
    BRICK,
    CORNERS,
    DENSITY,
    EMPTY,
    HIDDEN,
    SIDE,
    BakedField,
    brick_corners,
    corner_points,
    keep_bricks,
)
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.forward_models.chunks import in_chunks
from dfm_lightning.geometry.rays import project_points, ray_directions, ray_origins, transform_points
from dfm_lightning.geometry.scene_grids import CubeFrame
from dfm_lightning.signals import RadianceField
from dfm_lightning.types import Cameras, select_views

# Share of the cells along each side of the grid that lie in the cube around nearly everything seen.
_INNER = 0.8
# Share of the seen points in that cube.
_WITHIN = 0.95
# Points along each side of a brick at which the field is evaluated to find out whether it is empty.
_PROBES = 4
# Largest number of views that decide what is left out.
_VIEWS = 16
# Share of a pixel's light that must reach a point for it to count as seen.
_LEAST_LIGHT = 1e-3
# Densities that dim a ray through the whole scene by no more than this share are left out.
_FAINTEST = 0.005


def seen_points(
    cameras: Cameras, depth: Float[Tensor, "v 1 h w"], opacity: Float[Tensor, "v 1 h w"]
) -> Float[Tensor, "n 3"]:
    """Return where rays of one scene's views end, for pixels that are mostly opaque; for all if none is."""
    directions = ray_directions(cameras)[0].movedim(-1, 1)
    origins = ray_origins(cameras)[0][:, :, None, None]
    points = (origins + directions * (depth / opacity.clamp(min=1e-3))).movedim(1, -1)
    solid = opacity[:, 0] > 0.5
    return points[solid] if solid.any() else points.flatten(0, -2)


def frame_around(points: Float[Tensor, "n 3"]) -> CubeFrame:
    """Lay a frame over all of space, with most of its cells around the points."""
    # (`quantile` takes no more than 16 million numbers.)
    points = points[:: max(1, len(points) // 2**20)].float()
    low, high = points.quantile((1 - _WITHIN) / 2, dim=0), points.quantile((1 + _WITHIN) / 2, dim=0)
    centre = (low + high) / 2
    half = float((high - low).amax() / 2) * 1.1
    to_cube = torch.eye(4, device=points.device)
    to_cube[:3] /= max(half, 1e-6)
    to_cube[:3, 3] = -centre / max(half, 1e-6)
    return CubeFrame(to_cube[None], _INNER)


@torch.no_grad()
def bake(
    field: RadianceField,
    renderer: VolumeRendering,
    cameras: Cameras,
    points: Float[Tensor, "n 3"],
    resolution: int = 192,
) -> BakedField:
    """Evaluate one scene's field on a grid, leaving out empty and hidden space.

    The grid holds all of space, most of its cells in a cube around `points`; beyond it they grow with the distance
    (mip-NeRF 360's contraction). Bricks of 8³ cells are kept if a view holds them and the field is dense enough at
    any of 4³ points in them or at a neighbour's border, or if one of `points` lies in them. A ray through
    everything that is too faint to be kept would lose half a percent. Bricks are left out as hidden if no view
    receives light from them or their neighbours.

    Args:
        field: one scene, a batch of one.
        renderer: renders it; decides whether it has a fine stage, and where rays begin and end.
        cameras: views of the scene, a batch of one; everything outside all of them is left out.
        points: the points that they see (see `seen_points`).
        resolution: cells along a side of the grid, a multiple of 8.

    Raises:
        UserError: the field is empty.
    """
    if resolution < BRICK or resolution % BRICK:
        raise ValueError(f"resolution must be a multiple of {BRICK}, got {resolution}")
    frame = frame_around(points)
    side = resolution // BRICK
    faintest = -math.log(1 - _FAINTEST) / (renderer.far - renderer.near)
    z, y, x = torch.meshgrid(*[torch.arange(side, device=points.device)] * 3, indexing="ij")
    every = torch.stack([x, y, z], dim=-1).view(-1, 3)
    in_sight = _in_sight(frame, cameras, every, renderer.far, resolution)
    chosen = in_sight.clone()
    chosen[in_sight] = _dense(field, renderer, frame, every[in_sight], faintest, resolution)
    chosen[_bricks_of(frame, points, side)] = True
    stored = torch.zeros_like(chosen)
    bricks, values = every[:0], points.new_zeros(0, CORNERS, 4 + (renderer.fine_samples > 0))
    while (new := every[chosen & ~stored]).numel():
        corners = corner_points(frame, brick_corners(new).flatten(0, 1), resolution)
        found = _values(field, renderer, corners).unflatten(0, (len(new), -1))
        bricks, values = torch.cat([bricks, new]), torch.cat([values, found])
        stored |= chosen
        # Whatever reaches a side of a brick continues beyond it, even if the points of its neighbour miss it.
        chosen |= _continued(new, found, faintest, side) & in_sight
    table = torch.full((side, side, side), EMPTY, dtype=torch.long, device=points.device)
    table[bricks[:, 2], bricks[:, 1], bricks[:, 0]] = torch.arange(len(bricks), device=points.device)
    baked = BakedField(frame, table, values)
    baked = keep_bricks(baked, (values[..., DENSITY:] > faintest).flatten(1).any(dim=1), EMPTY)
    if not len(baked.values):
        raise UserError("the scene is empty: there is nothing to bake")
    return keep_bricks(baked, _lit(baked, renderer, cameras), HIDDEN)


def _continued(
    bricks: Int[Tensor, "k 3"], values: Float[Tensor, "k n c"], faintest: float, side: int
) -> Bool[Tensor, " g"]:
    """Find the bricks (in order z, y, x) that share a side with one of the bricks that is dense there."""
    dense = (values[..., DENSITY:] > faintest).any(dim=-1).view(-1, SIDE, SIDE, SIDE)
    beyond = torch.zeros(side**3, dtype=torch.bool, device=bricks.device)
    for axis in range(3):
        for end, step in ((0, -1), (BRICK, 1)):
            goes_on = dense.select(3 - axis, end).flatten(1).any(dim=1)
            x, y, z = (bricks[goes_on] + step * torch.eye(3, dtype=torch.long, device=bricks.device)[axis]).unbind(
                -1
            )
            inside = (torch.stack([x, y, z]) >= 0).all(dim=0) & (torch.stack([x, y, z]) < side).all(dim=0)
            beyond[((z * side + y) * side + x)[inside]] = True
    return beyond


def _lit(baked: BakedField, renderer: VolumeRendering, cameras: Cameras) -> Bool[Tensor, " k"]:
    """Find the bricks that some view receives light from, and their neighbours; by the order of their rows."""
    side = len(baked.bricks)
    lit = torch.zeros(side**3, device=baked.values.device)
    for view in _chosen(cameras):
        camera = select_views(cameras, slice(view, view + 1))
        details = renderer.observe(baked, camera).auxiliary
        reaching = 1 - details.weights.cumsum(dim=-1) + details.weights > _LEAST_LIGHT
        origins, directions = ray_origins(camera)[:, :, None, None], ray_directions(camera)
        points = origins[..., None, :] + details.distances[..., None] * directions[..., None, :]
        lit[_bricks_of(baked.frame, points[reaching], side)] = 1
    # With neighbours: other views look a little further around corners.
    near = torch.nn.functional.max_pool3d(lit.view(1, 1, side, side, side), 3, stride=1, padding=1)[0, 0]
    x, y, z = baked.occupied().unbind(-1)
    return near[z, y, x] > 0


def _chosen(cameras: Cameras) -> list[int]:
    """Choose at most 16 views, evenly spread, that decide what is left out."""
    views = cameras.pixels.shape[1]
    count = min(views, _VIEWS)
    return [view * views // count for view in range(count)]


def _bricks_of(frame: CubeFrame, points: Float[Tensor, "n 3"], side: int) -> Int[Tensor, " n"]:
    """Return the number of the brick (in order z, y, x) that each point is in."""
    x, y, z = (frame.places(points[None].to(frame.to_cube))[0] * side).long().clamp(0, side - 1).unbind(-1)
    return (z * side + y) * side + x


def _in_sight(
    frame: CubeFrame, cameras: Cameras, bricks: Int[Tensor, "g 3"], far: float, resolution: int
) -> Bool[Tensor, " g"]:
    """Find the bricks that one of the views may show a part of."""
    chosen = _chosen(cameras)
    middles = corner_points(frame, (bricks + 0.5) * BRICK, resolution)
    corners = corner_points(frame, bricks * BRICK, resolution)
    radius = (middles - corners).norm(dim=-1)
    world_to_camera = torch.linalg.inv(cameras.camera_to_world[:, chosen])
    local = transform_points(world_to_camera, middles[None])[0]
    place = project_points(cameras.intrinsics[:, chosen], local[None])[0]
    depth = local[..., 2]
    margin = (radius / depth.clamp(min=1e-3))[..., None]
    within = ((place > -margin) & (place < 1 + margin)).all(dim=-1) & (depth > -radius)
    near_enough = local.norm(dim=-1) - radius < far
    return ((within | (depth.abs() < radius)) & near_enough).any(dim=0)


def _dense(
    field: RadianceField,
    renderer: VolumeRendering,
    frame: CubeFrame,
    bricks: Tensor,
    faintest: float,
    resolution: int,
) -> Bool[Tensor, " g"]:
    """Find the bricks in which the field is dense, at some points of each."""
    steps = (torch.arange(_PROBES, device=bricks.device) + 0.5) * (BRICK / _PROBES)
    probes = torch.cartesian_prod(steps, steps, steps)
    points = corner_points(frame, (bricks[:, None] * BRICK + probes).flatten(0, 1), resolution)
    return (_values(field, renderer, points)[:, DENSITY:] > faintest).any(dim=1).view(len(bricks), -1).any(dim=1)


def _values(field: RadianceField, renderer: VolumeRendering, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n c"]:
    """Return colour and density of the stage that is seen, and the density of the other, if there is one."""

    def values(points: Float[Tensor, "1 n 3"]) -> Tensor:
        seen = field.query(points, "fine" if renderer.fine_samples else "coarse")
        parts = [seen.colour, seen.density.relu()[..., None]]
        if renderer.fine_samples:
            parts.append(field.query(points, "coarse").density.relu()[..., None])
        return torch.cat(parts, dim=-1)[0].float()

    size = max(1, renderer.memory_budget(points) // (field.floats_per_point * points.element_size()))
    return torch.cat(list(in_chunks(values, (points[None],), size, dim=1)))
