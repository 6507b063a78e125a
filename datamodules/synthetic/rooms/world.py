"""The parts of a synthetic house: convex cells joined by portals, and boxes standing in the cells.

Lengths are in metres. The axes are those of a camera held level: x right, y down, z forward; the floor is the
plane y = 0, so that objects standing on it have negative y.
"""

from typing import NamedTuple

Point = tuple[float, float, float]
Colour = tuple[float, float, float]


class Surface(NamedTuple):
    """The look of a face: a procedural texture (`textures.TEXTURES`), its colours in [0, 1] and its seed.

    `emission` is the share of the colour that does not depend on light: 1 for a window or a lamp.
    """

    texture: str
    colours: tuple[Colour, ...]
    seed: int = 0
    emission: float = 0.0


class Solid(NamedTuple):
    """An axis-aligned box that stands in a cell."""

    lower: Point
    upper: Point
    surface: Surface


class Portal(NamedTuple):
    """A rectangle in a face of a cell through which one looks, and walks, into another cell.

    The face is the one at the lower (side 0) or upper (side 1) end of `axis`.
    """

    axis: int
    side: int
    lower: Point
    upper: Point
    leads_to: int


class Cell(NamedTuple):
    """A convex piece of space (a room, or the thickness of a wall in a doorway) and the objects in it."""

    name: str
    lower: Point
    upper: Point
    floor: Surface
    ceiling: Surface
    walls: Surface
    light: Colour
    portals: tuple[Portal, ...]
    solids: tuple[Solid, ...]

    @property
    def centre(self) -> Point:
        """Return the middle of the cell."""
        x, y, z = ((low + high) / 2 for low, high in zip(self.lower, self.upper, strict=True))
        return x, y, z


class House(NamedTuple):
    """Cells; the rooms come first, in the order in which they are joined, then the doorways."""

    cells: tuple[Cell, ...]
    rooms: int
