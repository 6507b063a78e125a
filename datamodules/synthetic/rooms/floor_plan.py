"""Rooms in a row and the doorways between them, seen from above."""

from typing import NamedTuple

import numpy as np

ROOM_HEIGHT = 2.6
DOOR_HEIGHT = 2.05
# As thick as a wardrobe is deep: from beside the door one sees the opening, but nothing of the room behind it.
WALL_THICKNESS = 0.45
CORNER_MARGIN = 0.35

Span = tuple[float, float]
KINDS = ("living room", "bedroom", "kitchen", "study", "dining room")


class Rectangle(NamedTuple):
    """A rectangle of the floor: its extent along x and along z."""

    x: Span
    z: Span

    def grown(self, margin: float) -> "Rectangle":
        """Return the rectangle with a margin added on each side (negative: removed)."""
        return Rectangle((self.x[0] - margin, self.x[1] + margin), (self.z[0] - margin, self.z[1] + margin))

    def overlaps(self, other: "Rectangle") -> bool:
        """Tell whether the two have an area in common."""
        return all(a[0] < b[1] and b[0] < a[1] for a, b in zip(self, other, strict=True))

    def holds(self, other: "Rectangle") -> bool:
        """Tell whether the other lies within this one."""
        return all(a[0] <= b[0] and b[1] <= a[1] for a, b in zip(self, other, strict=True))

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Return distances of points [n, 2] (x, z) from the rectangle; 0 within."""
        lower, upper = np.array([self.x[0], self.z[0]]), np.array([self.x[1], self.z[1]])
        return np.linalg.norm(np.maximum(np.maximum(lower - points, points - upper), 0), axis=1)


class Wall(NamedTuple):
    """A side of a room: the axis it is perpendicular to (0: x, 2: z) and the end of it (0: lower, 1: upper)."""

    axis: int
    side: int


class Doorway(NamedTuple):
    """The opening from a room into the next one: the wall of the first room it is in, and its extent."""

    first: int
    second: int
    wall: Wall
    opening: Rectangle

    @property
    def centre(self) -> np.ndarray:
        """Return the middle of the opening (x, z)."""
        return np.array([sum(self.opening.x) / 2, sum(self.opening.z) / 2])

    @property
    def direction(self) -> np.ndarray:
        """Return the unit vector (x, z) that leads from the first room into the second."""
        sign = 1.0 if self.wall.side else -1.0
        return np.array([sign, 0.0] if self.wall.axis == 0 else [0.0, sign])


class FloorPlan(NamedTuple):
    """Rooms, each with its use, and the doorways that join each to the next."""

    rooms: tuple[Rectangle, ...]
    kinds: tuple[str, ...]
    doorways: tuple[Doorway, ...]

    def contains(self, points: np.ndarray, margin: float) -> bool:
        """Tell whether points [n, 2] all lie in rooms, at a margin from the walls, or in doorways."""
        free = [room.grown(-margin) for room in self.rooms]
        free += [_lengthened(doorway, margin) for doorway in self.doorways]
        inside = np.stack([area.distances(points) <= 0 for area in free])
        return bool(inside.any(axis=0).all())


def _lengthened(doorway: Doorway, margin: float) -> Rectangle:
    """Return a doorway without its edges, extended into both rooms."""
    longer, narrower = (WALL_THICKNESS / 2 + margin, -0.25)
    x, z = doorway.opening
    if doorway.wall.axis == 0:
        return Rectangle((x[0] - longer, x[1] + longer), (z[0] - narrower, z[1] + narrower))
    return Rectangle((x[0] - narrower, x[1] + narrower), (z[0] - longer, z[1] + longer))


def draw_floor_plan(random: np.random.Generator, rooms: int) -> FloorPlan:
    """Draw a plan of rooms of random use and size, each with a doorway into the next."""
    placed = [Rectangle((0.0, random.uniform(3.8, 5.6)), (0.0, random.uniform(3.8, 5.6)))]
    doorways: list[Doorway] = []
    while len(placed) < rooms:
        wall = Wall(axis=int(random.choice([0, 2])), side=int(random.integers(2)))
        doorway, room = _next_room(random, len(placed) - 1, placed[-1], wall)
        if not any(room.grown(WALL_THICKNESS / 2).overlaps(other) for other in placed):
            placed.append(room)
            doorways.append(doorway)
    kinds = tuple(str(kind) for kind in random.choice(KINDS, size=rooms, replace=rooms > len(KINDS)))
    return FloorPlan(tuple(placed), kinds, tuple(doorways))


def _next_room(random: np.random.Generator, number: int, room: Rectangle, wall: Wall) -> tuple[Doorway, Rectangle]:
    """Draw a doorway in a wall of a room, and a room behind it."""
    across, along = (room.x, room.z) if wall.axis == 0 else (room.z, room.x)
    width = random.uniform(0.8, 1.0)
    low = random.uniform(along[0] + CORNER_MARGIN, along[1] - CORNER_MARGIN - width)
    door_along = (low, low + width)
    length, depth = random.uniform(3.6, 5.4), random.uniform(3.6, 5.4)
    start = random.uniform(low + width + CORNER_MARGIN - length, low - CORNER_MARGIN)
    if wall.side:
        door_across = (across[1], across[1] + WALL_THICKNESS)
        room_across = (door_across[1], door_across[1] + depth)
    else:
        door_across = (across[0] - WALL_THICKNESS, across[0])
        room_across = (door_across[0] - depth, door_across[0])
    room_along = (start, start + length)
    if wall.axis == 0:
        opening, behind = Rectangle(door_across, door_along), Rectangle(room_across, room_along)
    else:
        opening, behind = Rectangle(door_along, door_across), Rectangle(room_along, room_across)
    return Doorway(number, number + 1, wall, opening), behind
