"""Ray tracing of a scene with sun, sky light, shadows and antialiasing."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from datamodules.synthetic.co3d.scene import Scene
from datamodules.synthetic.co3d.solids import NO_HIT, Scalars, Vectors, dot, may_meet
from dfm_lightning.geometry.cameras import pixel_grid

SKY, GROUND, COMPANION, OBJECT, BACK = range(5)
"""What a ray may meet, as numbered in `Rendering.label`; BACK is the part of the object with its own colour."""

# A pixel whose colour differs from a neighbour's by more than this is rendered again with more rays.
_CONTRAST = 0.06
_SUBPIXELS = 3
_SUNLIGHT = np.float32(0.6)
_SKYLIGHT = np.float32(0.6)
# Distances at which the ground begins to fade into the horizon, and over which it does.
_FADE_FROM, _FADE_OVER = 3.5, 8.0


class Rendering(NamedTuple):
    """One view. Colour is RGB in [0, 1], the mask the share of a pixel that the object covers.

    Depth (along the camera's z axis, infinite in the sky) and label are those at the pixels' centres.
    """

    colour: Float[np.ndarray, "h w 3"]
    mask: Float[np.ndarray, "h w"]
    depth: Float[np.ndarray, "h w"]
    label: Int[np.ndarray, "h w"]


class _Hits(NamedTuple):
    """The hit of each ray: distance in lengths of the direction, normal, index of the part, label."""

    distance: Scalars
    normal: Vectors
    part: Int[np.ndarray, " n"]
    label: Int[np.ndarray, " n"]


def render(
    scene: Scene,
    camera_to_world: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    height: int,
    width: int,
) -> Rendering:
    """Render a scene from an OpenCV camera with normalised intrinsics."""
    view = partial(_look, scene, camera_to_world, intrinsics)
    grid = pixel_grid(height, width)
    colour, distance, label = (part.reshape(height, width, -1) for part in view(grid.flatten(0, 1)))
    mask = (label >= OBJECT).astype(np.float32)

    uneven = _differs_from_neighbours(colour, label[..., 0])
    spread = (pixel_grid(_SUBPIXELS, _SUBPIXELS).flatten(0, 1) - 0.5) / torch.tensor([width, height])
    finer = view((grid[torch.from_numpy(uneven)][:, None] + spread).flatten(0, 1))
    colour[uneven] = finer.colour.reshape(-1, len(spread), 3).mean(axis=1)
    mask[uneven] = (finer.label >= OBJECT).reshape(-1, len(spread), 1).mean(axis=1)
    return Rendering(np.clip(colour, 0, 1), mask[..., 0], distance[..., 0], label[..., 0])


class _Seen(NamedTuple):
    """The result of rays: colour, distance in lengths of the direction, label."""

    colour: Float[np.ndarray, "n 3"]
    distance: Scalars
    label: Int[np.ndarray, " n"]


def _look(
    scene: Scene,
    camera_to_world: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    positions: Float[Tensor, "n 2"],
) -> _Seen:
    """Trace the camera's rays at image positions. They have length one along the z axis: distance is depth."""
    origin, direction = _rays(camera_to_world, intrinsics, positions)
    hits = _trace(scene, origin, direction)
    return _Seen(_shade(scene, origin, direction, hits), hits.distance, hits.label)


def _rays(
    camera_to_world: Float[Tensor, "4 4"], intrinsics: Float[Tensor, "3 3"], positions: Float[Tensor, "n 2"]
) -> tuple[Vectors, Vectors]:
    """Return origins and directions (length one along the camera's z axis) of rays through image positions."""
    homogeneous = torch.cat([positions, torch.ones(len(positions), 1)], dim=1)
    direction = homogeneous @ torch.linalg.inv(intrinsics).T @ camera_to_world[:3, :3].T
    origin = camera_to_world[:3, 3].expand_as(direction)
    return origin.numpy(), direction.numpy()


def _trace(scene: Scene, origin: Vectors, direction: Vectors) -> _Hits:
    """Find the first surface that each ray hits."""
    downward = np.minimum(direction[:, 1], np.float32(-1e-6))
    distance = np.where(direction[:, 1] < -1e-6, -origin[:, 1] / downward, NO_HIT)
    normal = np.zeros_like(direction)
    normal[:, 1] = 1
    part = np.full(len(direction), -1)
    label = np.where(np.isfinite(distance), GROUND, SKY)
    for index, each in enumerate(scene.parts):
        rays = may_meet(each.solid, origin, direction)
        met = each.solid.intersect(origin[rays], direction[rays])
        first = met.distance < distance[rays]
        rays, facing = rays[first], met.normal[first]
        distance[rays] = met.distance[first]
        normal[rays] = facing
        part[rays] = index
        label[rays] = np.where(facing @ each.towards < 0, BACK, OBJECT) if each.is_object else COMPANION
    return _Hits(distance, normal, part, label)


def _shade(scene: Scene, origin: Vectors, direction: Vectors, hits: _Hits) -> Float[np.ndarray, "n 3"]:
    """Compute the colour that each ray returns."""
    unit = direction / np.sqrt(dot(direction, direction))[:, None]
    sky = _sky(scene, unit)
    met = hits.label != SKY
    point = origin[met] + hits.distance[met, None] * direction[met]
    normal, part, label = hits.normal[met], hits.part[met], hits.label[met]

    facing = np.maximum(normal @ scene.sun, 0)
    lit = np.zeros(len(point), bool)
    lit[facing > 0] = ~_in_shadow(scene, point[facing > 0] + normal[facing > 0] * np.float32(2e-3))
    # The sky lights surfaces that face up more than those that face down; near other solids it is partly covered.
    skylight = _SKYLIGHT * (0.85 + 0.15 * normal[:, 1]) * _openness(scene, point, part)
    light = skylight + _SUNLIGHT * facing * lit
    colour = sky
    shaded = _reflectance(scene, point, part, label) * light[:, None]
    away = np.sqrt(dot(point - scene.middle, point - scene.middle))
    fade = 1 - np.exp(-np.maximum(away - _FADE_FROM, 0) / _FADE_OVER)
    colour[met] = shaded + (scene.horizon - shaded) * fade[:, None]
    return colour


def _sky(scene: Scene, unit: Vectors) -> Float[np.ndarray, "n 3"]:
    height = np.clip(unit[:, 1] * 2.5, 0, 1)[:, None].astype(np.float32)
    return scene.horizon + (scene.zenith - scene.horizon) * height


def _in_shadow(scene: Scene, point: Vectors) -> Bool[np.ndarray, " n"]:
    sun = np.broadcast_to(scene.sun, point.shape)
    shadow = np.zeros(len(point), bool)
    for part in scene.parts:
        rays = may_meet(part.solid, point, sun)
        shadow[rays] |= np.isfinite(part.solid.intersect(point[rays], sun[rays]).distance)
    return shadow


def _openness(scene: Scene, point: Vectors, part: Int[np.ndarray, " n"]) -> Scalars:
    """Estimate how much of the sky a point sees: less on the ground beside a solid and low on its sides."""
    openness = np.ones(len(point), np.float32)
    on_ground = part < 0
    for each in scene.parts:
        low = float(each.solid.centre[1]) < 0.7
        if low:
            gap = np.hypot(point[:, 0] - each.solid.centre[0], point[:, 2] - each.solid.centre[2])
            gap = np.maximum(gap - np.float32(each.solid.footprint * 0.85), 0)
            openness = np.where(on_ground, openness * (1 - 0.45 * np.exp(-gap / np.float32(0.22))), openness)
    return np.where(on_ground, openness, 1 - 0.35 * np.exp(-np.maximum(point[:, 1], 0) / np.float32(0.2)))


def _reflectance(
    scene: Scene, point: Vectors, part: Int[np.ndarray, " n"], label: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n 3"]:
    ground = scene.ground
    cosine, sine = np.float32(np.cos(ground.yaw)), np.float32(np.sin(ground.yaw))
    x, y, z = point.T
    turn = _turns(cosine * x + sine * z, ground.period)
    if ground.chequered:
        turn += _turns(cosine * z - sine * x, ground.period)
    colour = np.stack(ground.colours)[turn % 2]
    for index, each in enumerate(scene.parts):
        on = part == index
        colour[on] = np.stack(each.front.colours)[_turns(y[on], each.front.period) % 2]
        colour[on & (label == BACK)] = each.back
    return colour


def _turns(along: Scalars, period: float) -> Int[np.ndarray, " n"]:
    """Count the half periods passed."""
    return np.floor(along / np.float32(period / 2)).astype(np.int64)


def _differs_from_neighbours(
    colour: Float[np.ndarray, "h w 3"], label: Int[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    """Find pixels on an edge of colour or of an object."""
    uneven = np.zeros(label.shape, bool)
    for axis in (0, 1):
        step = (np.abs(np.diff(colour, axis=axis)) > _CONTRAST).any(axis=2)
        step |= np.diff(label, axis=axis) != 0
        first = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
        second = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
        uneven[first] |= step
        uneven[second] |= step
    return uneven
