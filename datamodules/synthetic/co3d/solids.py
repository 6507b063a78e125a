"""Convex solids and their first intersections with rays."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

Vector = Float[np.ndarray, " 3"]
Vectors = Float[np.ndarray, "n 3"]
Scalars = Float[np.ndarray, " n"]

NO_HIT = np.float32(np.inf)
# Keeps a ray that starts on a surface from hitting that surface again.
_NEAREST = np.float32(1e-3)


class Meeting(NamedTuple):
    """Distance to the surface in lengths of the direction (infinite without one), and the outward normal there."""

    distance: Scalars
    normal: Vectors


@runtime_checkable
class Solid(Protocol):
    """A convex solid. Any convex solid hides its own back."""

    @property
    def centre(self) -> Vector:
        """Return a point inside."""
        ...

    @property
    def reach(self) -> float:
        """Return the radius of a ball around the centre that holds the solid."""
        ...

    @property
    def footprint(self) -> float:
        """Return the radius of a circle around the centre that holds the solid seen from above."""
        ...

    def intersect(self, origin: Vectors, direction: Vectors) -> Meeting:
        """Find where rays enter the solid."""
        ...


class Sphere(NamedTuple):
    """A ball."""

    centre: Vector
    radius: float

    @property
    def reach(self) -> float:
        return self.radius

    @property
    def footprint(self) -> float:
        return self.radius

    def intersect(self, origin: Vectors, direction: Vectors) -> Meeting:
        offset = origin - self.centre
        distance = _smaller_root(
            dot(direction, direction), dot(offset, direction), dot(offset, offset) - np.float32(self.radius**2)
        )
        return Meeting(distance, (offset + _finite(distance) * direction) / np.float32(self.radius))


class Box(NamedTuple):
    """A box on a horizontal base, turned by `yaw` radians about the vertical y axis. `half` are half its sides."""

    centre: Vector
    half: Vector
    yaw: float

    @property
    def reach(self) -> float:
        return float(np.linalg.norm(self.half))

    @property
    def footprint(self) -> float:
        return float(np.hypot(self.half[0], self.half[2]))

    def intersect(self, origin: Vectors, direction: Vectors) -> Meeting:
        turn = _turn(self.yaw)
        local_origin, local_direction = (origin - self.centre) @ turn, direction @ turn
        slope = 1 / np.where(np.abs(local_direction) < 1e-9, np.float32(1e-9), local_direction)
        through_middle, extent = -local_origin * slope, np.abs(slope) * self.half
        nearer, further = through_middle - extent, through_middle + extent
        distance = np.maximum(np.maximum(nearer[:, 0], nearer[:, 1]), nearer[:, 2])
        leaving = np.minimum(np.minimum(further[:, 0], further[:, 1]), further[:, 2])
        met = (distance < leaving) & (distance > _NEAREST)
        normal = np.where(nearer == distance[:, None], -np.sign(local_direction), np.float32(0))
        return Meeting(np.where(met, distance, NO_HIT), normal @ turn.T)


class Cylinder(NamedTuple):
    """An upright cylinder."""

    centre: Vector
    radius: float
    half_height: float

    @property
    def reach(self) -> float:
        return float(np.hypot(self.radius, self.half_height))

    @property
    def footprint(self) -> float:
        return self.radius

    def intersect(self, origin: Vectors, direction: Vectors) -> Meeting:
        offset = origin - self.centre
        side = _smaller_root(
            direction[:, 0] ** 2 + direction[:, 2] ** 2,
            offset[:, 0] * direction[:, 0] + offset[:, 2] * direction[:, 2],
            offset[:, 0] ** 2 + offset[:, 2] ** 2 - np.float32(self.radius**2),
        )
        side = np.where(self._within_height(offset, direction, side), side, NO_HIT)
        # Rays from above hit the upper end, others the lower one.
        up = np.where(direction[:, 1] < 0, np.float32(1), np.float32(-1))
        steep = np.where(np.abs(direction[:, 1]) < 1e-9, np.float32(1e-9), direction[:, 1])
        end = (up * np.float32(self.half_height) - offset[:, 1]) / steep
        x, z = offset[:, 0] + end * direction[:, 0], offset[:, 2] + end * direction[:, 2]
        end = np.where((end > _NEAREST) & (x * x + z * z < self.radius**2), end, NO_HIT)

        distance = np.minimum(side, end)
        normal = (offset + _finite(distance) * direction) / np.float32(self.radius)
        normal[:, 1] = 0
        normal[end < side] = 0
        normal[end < side, 1] = up[end < side]
        return Meeting(distance, normal)

    def _within_height(self, offset: Vectors, direction: Vectors, distance: Scalars) -> Bool[np.ndarray, " n"]:
        height = offset[:, 1] + np.where(np.isfinite(distance), distance, 0) * direction[:, 1]
        return np.abs(height) < self.half_height


def may_meet(solid: Solid, origin: Vectors, direction: Vectors) -> Int[np.ndarray, " m"]:
    """Find the rays that pass near enough to the solid to be worth intersecting."""
    offset = origin - solid.centre
    square = dot(direction, direction)
    nearest = dot(offset, offset) * square - dot(offset, direction) ** 2
    return np.flatnonzero(nearest < square * np.float32(solid.reach**2))


def dot(first: Vectors, second: Vectors) -> Scalars:
    """Compute scalar products row by row."""
    return np.einsum("ij,ij->i", first, second)


def _smaller_root(square: Scalars, half_linear: Scalars, constant: Scalars) -> Scalars:
    """Return the smaller root of square t² + 2 half_linear t + constant if it lies ahead."""
    discriminant = half_linear**2 - square * constant
    root = (-half_linear - np.sqrt(np.maximum(discriminant, 0))) / np.maximum(square, np.float32(1e-12))
    return np.where((discriminant > 0) & (root > _NEAREST), root, NO_HIT)


def _finite(distance: Scalars) -> Float[np.ndarray, "n 1"]:
    return np.where(np.isfinite(distance), distance, np.float32(0))[:, None]


def _turn(yaw: float) -> Float[np.ndarray, "3 3"]:
    """Return the rotation about the y axis that takes z to (sin yaw, 0, cos yaw)."""
    sine, cosine = np.sin(yaw), np.cos(yaw)
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]], np.float32)
