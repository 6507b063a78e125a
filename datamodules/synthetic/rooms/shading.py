"""Render pictures of a house: surfaces hit by a camera's rays, lit by a lamp in each room."""

import numpy as np
from jaxtyping import Float, Int, UInt8

from datamodules.synthetic.rooms.textures import Face, albedo
from datamodules.synthetic.rooms.tracing import (
    WALL,
    Hits,
    Matrix3,
    Matrix4,
    Vectors,
    crossing,
    prepared,
    trace_view,
)
from datamodules.synthetic.rooms.world import Cell, House, Surface

# The points of a lamp. Each of a pixel's four rays is lit by one of them: shadows have soft edges.
LAMP_POINTS = np.array([(-0.25, 0, -0.12), (0.22, 0, -0.25), (0.25, 0, 0.17), (-0.16, 0, 0.25)], np.float32)

# Thinner objects (pictures, rugs) lie on a wall or the floor and cast no visible shadow.
FLAT = 0.035


def render(
    house: House, camera_to_world: Matrix4, intrinsics: Matrix3, height: int, width: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Render a picture of the house, with four rays for each pixel."""
    hits = trace_view(house, camera_to_world, intrinsics, 2 * height, 2 * width)
    lamp = np.tile([[0, 1], [2, 3]], (height, width)).reshape(-1)
    light = radiance(house, hits, LAMP_POINTS[lamp]).reshape(height, 2, width, 2, 3).mean(axis=(1, 3))
    return developed(light)


def developed(light: Float[np.ndarray, "*n 3"]) -> UInt8[np.ndarray, "*n 3"]:
    """Convert linear light to 8-bit sRGB, with the brightest parts compressed."""
    compressed = np.where(light < 0.7, light, 0.7 + 0.3 * (1 - np.exp(-np.maximum(light - 0.7, 0) / 0.3)))
    return (np.clip(compressed, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)


def radiance(house: House, hits: Hits, lamp: Vectors) -> Vectors:
    """Compute the linear light that comes from each hit; `lamp` is the point of the room's lamp that lights it."""
    light = np.zeros((len(hits.distance), 3), np.float32)
    for number in np.unique(hits.cell):
        cell = house.cells[number]
        rays = np.flatnonzero(hits.cell == number)
        here = Hits(*(part[rays] for part in hits))
        incoming = illumination(cell, here, lamp[rays])
        for group, surface, face in faces(cell, here):
            colour = albedo(surface, face)
            light[rays[group]] = colour * (surface.emission + (1 - surface.emission) * incoming[group])
    return light


def faces(cell: Cell, hits: Hits) -> list[tuple[Int[np.ndarray, " k"], Surface, Face]]:
    """Group hits in one cell by the solid, or the cell's floor, ceiling or wall, that they lie on."""
    groups = []
    for solid in np.unique(hits.solid):
        on_solid = hits.solid == solid
        if solid != WALL:
            box = cell.solids[solid]
            groups.append((on_solid, box.surface, box.lower, box.upper))
            continue
        level, above = hits.axis == 1, hits.sign > 0
        groups.append((on_solid & level & ~above, cell.floor, cell.lower, cell.upper))
        groups.append((on_solid & level & above, cell.ceiling, cell.lower, cell.upper))
        groups.append((on_solid & ~level, cell.walls, cell.lower, cell.upper))
    return [
        (np.flatnonzero(mask), surface, _face(hits, np.flatnonzero(mask), lower, upper))
        for mask, surface, lower, upper in groups
        if mask.any()
    ]


def _face(hits: Hits, group: Int[np.ndarray, " k"], lower: tuple[float, ...], upper: tuple[float, ...]) -> Face:
    """Compute coordinates on the faces of a box: u along x, or z if the face looks along x; v upward, or z if
    level.
    """
    axis, point = hits.axis[group], hits.point[group]
    extent = np.subtract(upper, lower).astype(np.float32)
    u = np.where(axis == 0, point[:, 2] - lower[2], point[:, 0] - lower[0])
    v = np.where(axis == 1, point[:, 2] - lower[2], upper[1] - point[:, 1])
    width = np.where(axis == 0, extent[2], extent[0])
    height = np.where(axis == 1, extent[2], extent[1])
    return Face(u.astype(np.float32), v.astype(np.float32), width, height)


def illumination(cell: Cell, hits: Hits, lamp: Vectors) -> Vectors:
    """Compute the light at hits in a cell: a lamp under the ceiling, and the dimmer light of the room itself."""
    normal = np.zeros_like(hits.point)
    np.put_along_axis(normal, hits.axis[:, None], hits.sign[:, None], axis=1)
    under_ceiling = np.array([cell.centre[0], cell.lower[1] + 0.15, cell.centre[2]], np.float32)
    towards = under_ceiling + lamp - hits.point
    distance = np.linalg.norm(towards, axis=1)
    direct = np.clip((towards * normal).sum(axis=1) / distance, 0, 1) / (1 + 0.12 * distance**2)
    facing = np.flatnonzero(direct > 0)
    direct[facing] *= lit(cell, hits.point[facing] + 1e-3 * normal[facing], towards[facing])
    # Light from above is stronger than from below, and different from either side, so that edges stay visible.
    ambient = np.array([0.36, 0.42, 0.30], np.float32)[hits.axis] + 0.05 * hits.sign * np.where(
        hits.axis == 1, -2, 1
    )
    total = ambient * openness(cell, hits.point, hits.axis) + 1.04 * direct
    return total[:, None] * np.array(cell.light, np.float32)


def lit(cell: Cell, point: Vectors, towards: Vectors) -> Float[np.ndarray, " n"]:
    """Return 1 where no solid of the cell stands between a point and its offset `towards`, else 0."""
    free, rays = np.ones(len(point), np.float32), prepared(point, towards)
    for solid in cell.solids:
        if np.subtract(solid.upper, solid.lower).min() > FLAT:
            enter, leave = crossing(solid.lower, solid.upper, rays)
            entry = enter.max(axis=0)
            free[(entry < leave.min(axis=0)) & (entry > 0) & (entry < 1)] = 0
    return free


def openness(cell: Cell, point: Vectors, axis: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Estimate how much of the room a point sees: less in the corners between walls, floor and ceiling."""
    result = np.ones(len(point), np.float32)
    for other in range(3):
        for end in (cell.lower[other], cell.upper[other]):
            near = 1 - 0.4 * np.exp(-np.abs(point[:, other] - end) / 0.22)
            result *= np.where(axis == other, 1, near)
    return result
