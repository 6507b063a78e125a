"""From a floor plan to a house: walls with openings, furniture off the camera's path, pictures and windows."""

import numpy as np
from jaxtyping import Float

from datamodules.synthetic.rooms.floor_plan import (
    DOOR_HEIGHT,
    ROOM_HEIGHT,
    Doorway,
    FloorPlan,
    Rectangle,
    Span,
    Wall,
)
from datamodules.synthetic.rooms.furniture import FURNISHINGS, WOODS, any_colour, seed
from datamodules.synthetic.rooms.world import Cell, Colour, House, Point, Portal, Solid, Surface

Path = Float[np.ndarray, "n 2"]
PATH_CLEARANCE = 0.55
WHITE = Surface("plain", ((0.9, 0.89, 0.86),))
WALLS = tuple(Wall(axis, side) for axis in (0, 2) for side in (0, 1))


class RoomFurnisher:
    """The furnisher of one room; it remembers what space is taken.

    Args:
        random: source of all choices.
        room: the room's floor.
        doorways: the doorways that open into it.
        path: positions of the camera (x, z), which must stay free.
    """

    def __init__(self, random: np.random.Generator, room: Rectangle, doorways: list[Doorway], path: Path) -> None:
        self.random = random
        self.room = room
        self.doorways = doorways
        self.path = path
        self.solids: list[Solid] = []
        self.taken = [doorway.opening.grown(0.75) for doorway in doorways]
        # The spans along each wall that are taken by what hangs on it or stands against it.
        self.covered: dict[Wall, list[Span]] = {wall: self._openings(wall) for wall in WALLS}

    def _openings(self, wall: Wall) -> list[Span]:
        return [
            (span[0] - 0.12, span[1] + 0.12)
            for doorway in self.doorways
            if wall_in(self.room, doorway) == wall
            for span in [doorway.opening.z if wall.axis == 0 else doorway.opening.x]
        ]

    def furnish(self, kind: str) -> list[Solid]:
        """Return everything that stands, lies or hangs in the room."""
        self.frame_doorways()
        makers = FURNISHINGS[kind]
        for index in [0, *(1 + self.random.permutation(len(makers) - 1))]:
            self.stand(makers[index](self.random))
        if self.random.random() < 0.75:
            self.lay_rug()
        windows = self.random.integers(1, 3)
        for _ in range(windows):
            self.hang((self.random.uniform(0.9, 1.6), 1.2), 0.95, self.window_surface())
        for _ in range(self.random.integers(2, 5)):
            width = self.random.uniform(0.5, 1.1)
            self.hang((width, self.random.uniform(0.4, 0.8)), 1.25, self.picture_surface())
        self.hang_lamp()
        return self.solids

    def window_surface(self) -> Surface:
        """Draw a window that shows a random landscape."""
        green = any_colour(self.random, 0.4, 0.5)
        return Surface("window", ((0.2, 0.4, 0.15), green), seed(self.random), 0.95)

    def picture_surface(self) -> Surface:
        """Draw a random picture."""
        colours = tuple(any_colour(self.random, self.random.uniform(0.2, 0.9), 0.8) for _ in range(5))
        return Surface("painting", colours, seed(self.random))

    def stand(self, piece: list[Solid], attempts: int = 40) -> None:
        """Put a piece of furniture against a wall if there is room for it; otherwise leave it out."""
        for _ in range(attempts):
            wall = WALLS[self.random.integers(4)]
            along = self.room.z if wall.axis == 0 else self.room.x
            middle = self.random.uniform(*along)
            placed = [against(self.room, wall, middle, solid) for solid in piece]
            area = footprint(placed)
            free = self.room.holds(area) and not any(area.overlaps(other) for other in self.taken)
            if free and self.path_stays_free(area):
                self.taken.append(area.grown(0.06))
                tall = [solid for solid in placed if -solid.lower[1] > 1.2]
                spans = [span_along(wall, footprint([solid])) for solid in tall]
                self.covered[wall] += spans
                self.solids += placed
                return

    def path_stays_free(self, area: Rectangle) -> bool:
        """Tell whether the camera never comes near an area."""
        return not len(self.path) or bool(area.distances(self.path).min() > PATH_CLEARANCE)

    def hang(self, size: tuple[float, float], height: float, surface: Surface, attempts: int = 20) -> None:
        """Hang something flat on a free stretch of wall."""
        for _ in range(attempts):
            wall = WALLS[self.random.integers(4)]
            along = self.room.z if wall.axis == 0 else self.room.x
            middle = self.random.uniform(*along)
            span = (middle - size[0] / 2 - 0.1, middle + size[0] / 2 + 0.1)
            inside = along[0] <= span[0] and span[1] <= along[1]
            if inside and not any(span[0] < b and a < span[1] for a, b in self.covered[wall]):
                flat = Solid((-size[0] / 2, -height - size[1], 0.0), (size[0] / 2, -height, 0.03), surface)
                self.covered[wall].append(span)
                self.solids.append(against(self.room, wall, middle, flat))
                return

    def lay_rug(self) -> None:
        """Lay a rug anywhere on the floor."""
        x, z = (float(self.random.uniform(span[0] + 1.2, span[1] - 1.2)) for span in self.room)
        half_x, half_z = self.random.uniform(0.6, 1.05, size=2).tolist()
        colours = tuple(any_colour(self.random, 0.6, value) for value in (0.75, 0.5, 0.35))
        surface = Surface("rug", colours, seed(self.random))
        self.solids.append(Solid((x - half_x, -0.012, z - half_z), (x + half_x, 0.0, z + half_z), surface))

    def hang_lamp(self) -> None:
        """Hang a flat lamp under the middle of the ceiling."""
        x, z = sum(self.room.x) / 2, sum(self.room.z) / 2
        surface = Surface("plain", ((1.0, 0.97, 0.9),), emission=0.9)
        self.solids.append(
            Solid((x - 0.25, -ROOM_HEIGHT, z - 0.25), (x + 0.25, -ROOM_HEIGHT + 0.07, z + 0.25), surface)
        )

    def frame_doorways(self, leaves: bool = True) -> None:
        """Frame the openings, and add open door leaves where they block nothing."""
        for doorway in self.doorways:
            wall = wall_in(self.room, doorway)
            low, high = span_along(wall, doorway.opening)
            posts = [
                Solid((side - 0.045, -DOOR_HEIGHT, 0.0), (side + 0.045, 0.0, 0.025), WHITE)
                for side in (low - 0.045, high + 0.045)
            ]
            lintel = Solid((low - 0.09, -DOOR_HEIGHT - 0.09, 0.0), (high + 0.09, -DOOR_HEIGHT, 0.025), WHITE)
            self.solids += [against(self.room, wall, 0.0, solid) for solid in (*posts, lintel)]
            if (
                leaves
                and self.room.overlaps(doorway.opening.grown(0.1))
                and wall_in(self.room, doorway) != doorway.wall
            ):
                self._open_leaf(wall, low, high)

    def _open_leaf(self, wall: Wall, low: float, high: float) -> None:
        surface = Surface("panels", WOODS[self.random.integers(len(WOODS))], seed(self.random))
        edge = low - 0.05 if self.random.random() < 0.5 else high + 0.05
        leaf = Solid((edge - 0.02, -DOOR_HEIGHT + 0.02, 0.03), (edge + 0.02, -0.01, high - low), surface)
        placed = against(self.room, wall, 0.0, leaf)
        area = footprint([placed])
        if self.room.holds(area) and self.path_stays_free(area.grown(-0.01)):
            self.taken.append(area.grown(0.05))
            self.solids.append(placed)


def wall_in(room: Rectangle, doorway: Doorway) -> Wall:
    """Return the wall of a room that one of its doorways is in."""
    axis = doorway.wall.axis
    across, opening = (room.x, doorway.opening.x) if axis == 0 else (room.z, doorway.opening.z)
    return Wall(axis, int(opening[0] >= across[1]))


def against(room: Rectangle, wall: Wall, along: float, solid: Solid) -> Solid:
    """Turn a box built with its back at z = 0 so that it stands against a wall, and move it along the wall."""
    (x0, y0, z0), (x1, y1, z1) = solid.lower, solid.upper
    low, high = along + x0, along + x1
    if wall.axis == 0:
        near, far = (room.x[1] - z1, room.x[1] - z0) if wall.side else (room.x[0] + z0, room.x[0] + z1)
        return Solid((near, y0, low), (far, y1, high), solid.surface)
    near, far = (room.z[1] - z1, room.z[1] - z0) if wall.side else (room.z[0] + z0, room.z[0] + z1)
    return Solid((low, y0, near), (high, y1, far), solid.surface)


def footprint(solids: list[Solid]) -> Rectangle:
    """Return the floor area that solids stand over."""
    lower = np.min([solid.lower for solid in solids], axis=0).tolist()
    upper = np.max([solid.upper for solid in solids], axis=0).tolist()
    return Rectangle((lower[0], upper[0]), (lower[2], upper[2]))


def span_along(wall: Wall, area: Rectangle) -> Span:
    """Return the extent of an area along a wall."""
    return area.z if wall.axis == 0 else area.x


def corners(area: Rectangle, height: float) -> tuple[Point, Point]:
    """Return the lower and upper corner of an object that stands on an area of the floor."""
    return (area.x[0], -height, area.z[0]), (area.x[1], 0.0, area.z[1])


def bare_house(plan: FloorPlan) -> House:
    """Build white rooms and doorways without furniture."""
    cells = []
    for number, (room, kind) in enumerate(zip(plan.rooms, plan.kinds, strict=True)):
        portals = tuple(
            Portal(wall.axis, wall.side, *corners(door.opening, DOOR_HEIGHT), len(plan.rooms) + index)
            for index, door in enumerate(plan.doorways)
            if number in (door.first, door.second)
            for wall in [wall_in(room, door)]
        )
        cells.append(Cell(kind, *corners(room, ROOM_HEIGHT), WHITE, WHITE, WHITE, (1.0, 1.0, 1.0), portals, ()))
    return House((*cells, *map(_doorway_cell, plan.doorways)), len(plan.rooms))


def _doorway_cell(door: Doorway) -> Cell:
    lower, upper = corners(door.opening, DOOR_HEIGHT)
    threshold = Surface("plain", (WOODS[0][0],))
    back, front = (door.first, door.second) if door.wall.side else (door.second, door.first)
    portals = (Portal(door.wall.axis, 0, lower, upper, back), Portal(door.wall.axis, 1, lower, upper, front))
    return Cell("doorway", lower, upper, threshold, WHITE, WHITE, (0.9, 0.87, 0.82), portals, ())


def empty_house(random: np.random.Generator, plan: FloorPlan, walls_behind: Colour) -> House:
    """Build plain walls and floors for a plan, with nothing in the rooms but a lamp and the frames of the
    doorways.

    The second room's walls are painted in the given colour, those of the others in pale ones.
    """
    bare = bare_house(plan)
    cells = list(bare.cells)
    for number, room in enumerate(plan.rooms):
        doorways = [door for door in plan.doorways if number in (door.first, door.second)]
        furnisher = RoomFurnisher(random, room, doorways, np.zeros((0, 2)))
        furnisher.frame_doorways(leaves=False)
        furnisher.hang_lamp()
        pale = any_colour(random, random.uniform(0.05, 0.25), random.uniform(0.75, 0.9))
        walls = Surface("paint", (walls_behind if number == 1 else pale,), seed(random))
        floor = Surface("plain", (WOODS[random.integers(3)][1],), seed(random))
        cells[number] = cells[number]._replace(floor=floor, walls=walls, solids=tuple(furnisher.solids))
    return House(tuple(cells), bare.rooms)


def furnished_house(random: np.random.Generator, plan: FloorPlan, path: Path, walls_behind: Colour) -> House:
    """Build walls, floors and furniture for a plan, leaving a path free.

    The second room's walls are painted in the given colour; all else is drawn at random.
    """
    bare = bare_house(plan)
    cells = list(bare.cells)
    for number, (room, kind) in enumerate(zip(plan.rooms, plan.kinds, strict=True)):
        doorways = [door for door in plan.doorways if number in (door.first, door.second)]
        solids = tuple(RoomFurnisher(random, room, doorways, path).furnish(kind))
        warm = random.uniform(0.82, 1.0)
        walls = Surface("paint", (walls_behind,), seed(random)) if number == 1 else _walls(random)
        cells[number] = cells[number]._replace(
            floor=_floor(random, kind), walls=walls, light=(1.0, 0.5 + 0.5 * warm, warm), solids=solids
        )
    return House(tuple(cells), bare.rooms)


def _floor(random: np.random.Generator, kind: str) -> Surface:
    if kind == "kitchen" or random.random() < 0.15:
        dark = any_colour(random, 0.25, random.uniform(0.3, 0.6))
        return Surface("tiles", ((0.82, 0.8, 0.76), dark), seed(random))
    if kind == "bedroom" and random.random() < 0.6:
        return Surface("carpet", (any_colour(random, 0.25, 0.5), any_colour(random, 0.2, 0.72)), seed(random))
    return Surface("planks", WOODS[random.integers(3)], seed(random))


def _walls(random: np.random.Generator) -> Surface:
    texture = str(random.choice(["paint", "paint", "paint", "stripes", "dots", "dado", "bricks"]))
    if texture == "bricks":
        return Surface(texture, ((0.55, 0.28, 0.2), (0.68, 0.4, 0.3)), seed(random))
    pale = any_colour(random, random.uniform(0.08, 0.45), random.uniform(0.75, 0.92))
    second = any_colour(random, random.uniform(0.1, 0.45), random.uniform(0.6, 0.9))
    return Surface(texture, (pale, second), seed(random))
