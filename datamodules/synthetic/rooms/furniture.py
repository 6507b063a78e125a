"""Pieces of furniture as lists of boxes.

Each piece is built with its back to z = 0, its middle at x = 0 and its front towards positive z, standing on
y = 0, and is then turned and moved to its place.
"""

from collections.abc import Callable

import numpy as np

from datamodules.synthetic.rooms.world import Colour, Solid, Surface

Generator = np.random.Generator

WOODS: tuple[tuple[Colour, Colour], ...] = (
    ((0.36, 0.22, 0.12), (0.5, 0.32, 0.18)),
    ((0.62, 0.44, 0.26), (0.76, 0.58, 0.38)),
    ((0.2, 0.13, 0.09), (0.3, 0.2, 0.14)),
    ((0.86, 0.84, 0.8), (0.93, 0.91, 0.88)),
)


def any_colour(random: Generator, saturation: float = 0.55, value: float = 0.75) -> Colour:
    """Draw a colour of random hue."""
    hue = random.uniform(0, 6)
    ramp = np.clip(np.abs(np.mod(hue + np.array([0.0, 4.0, 2.0]), 6) - 3) - 1, 0, 1)
    red, green, blue = (value * (1 - saturation * (1 - ramp))).tolist()
    return red, green, blue


def box(x: float, y: float, z: float, size: tuple[float, float, float], surface: Surface) -> Solid:
    """Build a box of a size centred on x, whose underside is y above the floor and whose back is at z."""
    width, height, depth = size
    return Solid((x - width / 2, -y - height, z), (x + width / 2, -y, z + depth), surface)


def moved(solids: list[Solid], x: float, z: float) -> list[Solid]:
    """Move boxes further to the right and to the front."""
    return [Solid((a + x, b, c + z), (d + x, e, f + z), surface) for (a, b, c), (d, e, f), surface in solids]


def seed(random: Generator) -> int:
    """Draw a seed for a texture."""
    return int(random.integers(1_000_000))


def wooden(random: Generator, texture: str = "wood") -> Surface:
    """Draw a wooden surface."""
    return Surface(texture, WOODS[random.integers(len(WOODS))], seed(random))


def cloth(random: Generator) -> Surface:
    """Draw a cloth of random colour, sometimes in checks."""
    first = any_colour(random, random.uniform(0.15, 0.7), random.uniform(0.35, 0.85))
    if random.random() < 0.25:
        return Surface("checked", (first, any_colour(random, 0.3, 0.85)), seed(random))
    return Surface("fabric", (first,), seed(random))


def legs(width: float, depth: float, height: float, surface: Surface) -> list[Solid]:
    """Build four legs under a top whose back is at z = 0."""
    return [
        box(side * (width / 2 - 0.05), 0.0, z, (0.06, height, 0.06), surface)
        for side in (-1, 1)
        for z in (0.02, depth - 0.08)
    ]


def sofa(random: Generator) -> list[Solid]:
    """Build a sofa with two or three seats and a cushion."""
    cover, cushion = cloth(random), cloth(random)
    width = random.uniform(1.6, 2.2)
    seats = 2 if width < 1.9 else 3
    seat = (width - 0.4) / seats
    pieces = [
        box(0.0, 0.06, 0.05, (width, 0.3, 0.85), cover),
        box(0.0, 0.36, 0.05, (width, 0.45, 0.22), cover),
        box(-width / 2 + 0.1, 0.36, 0.05, (0.2, 0.22, 0.85), cover),
        box(width / 2 - 0.1, 0.36, 0.05, (0.2, 0.22, 0.85), cover),
        box(random.uniform(-0.5, 0.5), 0.5, 0.27, (0.38, 0.36, 0.12), cushion),
    ]
    pieces += [
        box((i - (seats - 1) / 2) * seat, 0.36, 0.27, (seat - 0.02, 0.13, 0.64), cover) for i in range(seats)
    ]
    return pieces


def armchair(random: Generator) -> list[Solid]:
    """Build an armchair."""
    cover = cloth(random)
    return [
        box(0.0, 0.08, 0.05, (0.85, 0.32, 0.8), cover),
        box(0.0, 0.4, 0.05, (0.85, 0.5, 0.2), cover),
        box(-0.35, 0.4, 0.25, (0.15, 0.2, 0.6), cover),
        box(0.35, 0.4, 0.25, (0.15, 0.2, 0.6), cover),
    ]


def table(random: Generator) -> list[Solid]:
    """Build a table with something on it."""
    surface = wooden(random)
    width, depth = random.uniform(1.0, 1.6), random.uniform(0.7, 0.9)
    bowl = Surface("plain", (any_colour(random),), seed(random))
    return [
        box(0.0, 0.7, 0.0, (width, 0.05, depth), surface),
        *legs(width, depth, 0.7, surface),
        box(random.uniform(-0.3, 0.3), 0.75, depth / 2 - 0.1, (0.25, 0.14, 0.25), bowl),
    ]


def dining_table(random: Generator) -> list[Solid]:
    """Build a table with two chairs at its front."""
    seat = chair(random)
    return [*table(random), *moved(seat, -0.33, 0.75), *moved(seat, 0.33, 0.75)]


def chair(random: Generator) -> list[Solid]:
    """Build a chair whose back is at its front: it faces the wall, as chairs at a table do."""
    surface = wooden(random)
    return [
        box(0.0, 0.42, 0.0, (0.42, 0.05, 0.42), surface),
        box(0.0, 0.47, 0.38, (0.42, 0.5, 0.04), surface),
        *legs(0.42, 0.42, 0.42, surface),
    ]


def desk(random: Generator) -> list[Solid]:
    """Build a desk with drawers, a screen on it and a chair before it."""
    surface, monitor = wooden(random), Surface("screen", (), seed(random))
    return [
        box(0.0, 0.7, 0.0, (1.4, 0.05, 0.65), surface),
        box(-0.5, 0.0, 0.03, (0.4, 0.7, 0.58), wooden(random, "panels")),
        *legs(1.4, 0.65, 0.7, surface),
        box(0.1, 0.88, 0.18, (0.6, 0.36, 0.04), monitor),
        box(0.1, 0.75, 0.17, (0.2, 0.13, 0.12), Surface("plain", ((0.2, 0.2, 0.2),))),
        *moved(chair(random), 0.0, 0.6),
    ]


def bed(random: Generator) -> list[Solid]:
    """Build a bed, its head to the wall."""
    width = random.uniform(1.0, 1.7)
    frame, blanket = wooden(random), cloth(random)
    linen = Surface("fabric", ((0.9, 0.89, 0.86),), seed(random))
    return [
        box(0.0, 0.0, 0.0, (width + 0.08, 1.0, 0.07), frame),
        box(0.0, 0.05, 0.07, (width + 0.06, 0.25, 1.98), frame),
        box(0.0, 0.3, 0.09, (width, 0.2, 1.93), linen),
        box(0.0, 0.31, 0.7, (width + 0.04, 0.22, 1.34), blanket),
        box(-width / 4, 0.5, 0.15, (width * 0.4, 0.13, 0.4), linen),
        box(width / 4, 0.5, 0.15, (width * 0.4, 0.13, 0.4), linen),
    ]


def bookcase(random: Generator) -> list[Solid]:
    """Build a bookcase full of books."""
    plank = WOODS[random.integers(len(WOODS))][0]
    range_ = (any_colour(random, 0.5, 0.6), any_colour(random, 0.4, 0.8))
    size = (random.uniform(0.8, 1.4), random.choice([1.09, 1.45, 1.81]), 0.3)
    return [box(0.0, 0.0, 0.0, size, Surface("books", (plank, *range_), seed(random)))]


def wardrobe(random: Generator) -> list[Solid]:
    """Build a wardrobe."""
    return [
        box(0.0, 0.0, 0.0, (random.uniform(1.0, 1.8), random.uniform(1.9, 2.2), 0.6), wooden(random, "panels"))
    ]


def sideboard(random: Generator) -> list[Solid]:
    """Build a low cupboard with a television or a vase on it."""
    body = box(0.0, 0.05, 0.0, (random.uniform(1.2, 1.7), 0.55, 0.45), wooden(random, "panels"))
    if random.random() < 0.6:
        return [
            body,
            box(0.0, 0.68, 0.15, (1.05, 0.62, 0.05), Surface("screen", (), seed(random))),
            box(0.0, 0.6, 0.12, (0.3, 0.08, 0.2), Surface("plain", ((0.1, 0.1, 0.1),))),
        ]
    vase = Surface("plain", (any_colour(random, 0.7, 0.7),), seed(random))
    return [
        body,
        box(0.3, 0.6, 0.12, (0.16, 0.3, 0.16), vase),
        box(0.3, 0.9, 0.06, (0.3, 0.28, 0.28), leaves(random)),
    ]


def leaves(random: Generator) -> Surface:
    """Draw the green of a plant."""
    return Surface("carpet", ((0.1, 0.3, 0.08), (0.35, 0.6, 0.22)), seed(random))


def plant(random: Generator) -> list[Solid]:
    """Build a plant in a pot, as high as a person."""
    green = leaves(random)
    pot = Surface("plain", (any_colour(random, 0.5, 0.6),), seed(random))
    return [
        box(0.0, 0.0, 0.06, (0.34, 0.34, 0.34), pot),
        box(0.0, 0.34, 0.2, (0.05, 0.35, 0.05), Surface("plain", ((0.3, 0.2, 0.1),))),
        box(0.0, 0.62, 0.02, (0.5, 0.4, 0.42), green),
        box(0.03, 1.02, 0.1, (0.32, 0.3, 0.28), green),
    ]


def kitchen(random: Generator) -> list[Solid]:
    """Build a counter with wall cupboards and a refrigerator."""
    front = wooden(random, "panels")
    width = random.uniform(1.6, 2.2)
    worktop = Surface("carpet", ((0.2, 0.2, 0.21), (0.4, 0.4, 0.41)), seed(random))
    steel = Surface("panels", ((0.62, 0.63, 0.65), (0.68, 0.69, 0.7)), seed(random))
    return [
        box(0.0, 0.0, 0.0, (width, 0.86, 0.6), front),
        box(0.0, 0.86, 0.0, (width + 0.02, 0.04, 0.63), worktop),
        box(0.0, 1.4, 0.0, (width, 0.65, 0.35), front),
        box(width / 2 + 0.32, 0.0, 0.0, (0.6, 1.8, 0.64), steel),
        box(-width / 4, 0.9, 0.2, (0.24, 0.18, 0.24), Surface("plain", (any_colour(random, 0.7, 0.8),))),
    ]


def floor_lamp(random: Generator) -> list[Solid]:
    """Build a lamp on a pole."""
    pole = Surface("plain", ((0.15, 0.15, 0.15),))
    return [
        box(0.0, 0.0, 0.1, (0.28, 0.03, 0.28), pole),
        box(0.0, 0.03, 0.22, (0.04, 1.35, 0.04), pole),
        box(0.0, 1.38, 0.06, (0.36, 0.3, 0.36), Surface("fabric", ((1.0, 0.9, 0.68),), seed(random), 0.75)),
    ]


Maker = Callable[[Generator], list[Solid]]

FURNISHINGS: dict[str, tuple[Maker, ...]] = {
    "living room": (sofa, sideboard, armchair, bookcase, plant, floor_lamp, table),
    "bedroom": (bed, wardrobe, sideboard, floor_lamp, armchair, plant),
    "kitchen": (kitchen, dining_table, sideboard, plant),
    "study": (desk, bookcase, bookcase, armchair, floor_lamp, plant),
    "dining room": (dining_table, sideboard, plant, bookcase, table),
}
