"""Trace rays through a house: from cell to cell through portals, until a wall or a solid is hit."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from datamodules.synthetic.rooms.world import Cell, House, Point, Portal

Vectors = Float[np.ndarray, "n 3"]
Scalars = Float[np.ndarray, " n"]
Matrix4 = Float[np.ndarray, "4 4"]
Matrix3 = Float[np.ndarray, "3 3"]
Indices = Int[np.ndarray, " n"]

WALL = -1
"""`Hits.solid` of a ray that ended on a face of its cell."""
_FAR = np.float32(1e9)


class Hits(NamedTuple):
    """The ends of rays: distance along the ray, point, axis and sign of the normal, cell and solid in it."""

    distance: Scalars
    point: Vectors
    axis: Indices
    sign: Scalars
    cell: Indices
    solid: Indices


def cell_at(house: House, point: Float[np.ndarray, " 3"]) -> int:
    """Return the number of the cell that holds a point, -1 if there is none."""
    for number, cell in enumerate(house.cells):
        if all(low <= p <= high for low, p, high in zip(cell.lower, point, cell.upper, strict=True)):
            return number
    return -1


class Rays(NamedTuple):
    """Origins and inverse directions of rays, by coordinate: the form in which boxes are intersected fastest."""

    origin: Float[np.ndarray, "3 n"]
    inverse: Float[np.ndarray, "3 n"]


def prepared(origin: Vectors, direction: Vectors) -> Rays:
    """Prepare rays for `crossing`. Directions parallel to an axis are tilted slightly, to avoid 0 · ∞."""
    safe = np.where(np.abs(direction) < 1e-9, np.float32(1e-9), direction)
    return Rays(np.ascontiguousarray(origin.T), np.ascontiguousarray((1 / safe).T))


def crossing(lower: Point, upper: Point, rays: Rays) -> tuple[Float[np.ndarray, "3 n"], Float[np.ndarray, "3 n"]]:
    """Compute the distances, in units of the direction, at which rays enter and leave the three slabs of a box.

    A ray is inside the box between the greatest of the former and the least of the latter.
    """
    first = (np.array(lower, np.float32)[:, None] - rays.origin) * rays.inverse
    second = (np.array(upper, np.float32)[:, None] - rays.origin) * rays.inverse
    return np.minimum(first, second), np.maximum(first, second)


def nearest_solid(cell: Cell, rays: Rays) -> tuple[Scalars, Indices, Indices]:
    """Find the first solid that each ray enters: its distance, its number, and the axis of the face."""
    count = rays.origin.shape[1]
    distance = np.full(count, _FAR, np.float32)
    which, axis = np.full(count, WALL), np.zeros(count, np.int64)
    for number, solid in enumerate(cell.solids):
        enter, leave = crossing(solid.lower, solid.upper, rays)
        entry = enter.max(axis=0)
        closer = np.flatnonzero((entry > 1e-4) & (entry < leave.min(axis=0)) & (entry < distance))
        distance[closer], which[closer], axis[closer] = entry[closer], number, enter[:, closer].argmax(axis=0)
    return distance, which, axis


def within(portal: Portal, point: Vectors, axis: Indices, sign: Scalars) -> Bool[np.ndarray, " n"]:
    """Tell which points, on faces of the portal's cell given by axis and side, lie in the portal."""
    on_face = (axis == portal.axis) & ((sign > 0) == (portal.side == 1))
    for other in range(3):
        if other != portal.axis:
            on_face &= (point[:, other] > portal.lower[other]) & (point[:, other] < portal.upper[other])
    return on_face


def trace(house: House, origin: Vectors, direction: Vectors, start: int) -> Hits:
    """Follow rays (unit directions) that start in one cell to the first surface that each of them hits."""
    count = len(origin)
    hits = Hits(
        np.zeros(count, np.float32),
        np.zeros((count, 3), np.float32),
        np.zeros(count, np.int64),
        np.zeros(count, np.float32),
        np.full(count, start),
        np.full(count, WALL),
    )
    pending = np.arange(count)
    # A ray visits a cell at most once: the cells are convex and a portal joins two of them.
    for _ in house.cells:
        if not len(pending):
            break
        still = []
        for number in np.unique(hits.cell[pending]):
            rays = pending[hits.cell[pending] == number]
            still.append(_through_cell(house.cells[number], hits, rays, origin[rays], direction[rays]))
        pending = np.concatenate(still)
    return hits


def _through_cell(
    cell: Cell, hits: Hits, rays: Indices, origin: Vectors, direction: Vectors
) -> Int[np.ndarray, " k"]:
    """Fill in the hits of rays in a cell; return those that leave through a portal."""
    prepared_rays = prepared(origin, direction)
    _, leave = crossing(cell.lower, cell.upper, prepared_rays)
    axis, distance = leave.argmin(axis=0), leave.min(axis=0)
    sign = np.sign(np.take_along_axis(direction, axis[:, None], 1)[:, 0])
    near, solid, solid_axis = nearest_solid(cell, prepared_rays)
    blocked = near < distance
    point = origin + direction * np.minimum(distance, near)[:, None]

    entered = np.full(len(rays), -1)
    for portal in cell.portals:
        entered[~blocked & within(portal, point, axis, sign)] = portal.leads_to
    ended = entered < 0
    done = rays[ended]
    axis = np.where(blocked, solid_axis, axis)[ended]
    hits.distance[done] = np.minimum(distance, near)[ended]
    hits.point[done] = point[ended]
    hits.axis[done] = axis
    hits.sign[done] = -np.sign(np.take_along_axis(direction[ended], axis[:, None], 1)[:, 0])
    hits.solid[done] = np.where(blocked, solid, WALL)[ended]
    hits.cell[rays[~ended]] = entered[~ended]
    return rays[~ended]


def camera_rays(camera_to_world: Matrix4, intrinsics: Matrix3, height: int, width: int) -> tuple[Vectors, Vectors]:
    """Return origins and unit directions of the rays through the pixel centres, row by row."""
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3)
    directions = pixels @ np.linalg.inv(intrinsics).T @ camera_to_world[:3, :3].T
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    origins = np.broadcast_to(camera_to_world[:3, 3], directions.shape)
    return origins.astype(np.float32), directions.astype(np.float32)


def trace_view(house: House, camera_to_world: Matrix4, intrinsics: Matrix3, height: int, width: int) -> Hits:
    """Find what each pixel of a camera within the house sees, row by row."""
    origins, directions = camera_rays(camera_to_world, intrinsics, height, width)
    start = cell_at(house, camera_to_world[:3, 3])
    if start < 0:
        raise ValueError(f"the camera at {camera_to_world[:3, 3].tolist()} stands outside the house")
    return trace(house, origins, directions, start)
