"""Random small scenes: a solid object whose back has a colour of its own, on a patterned ground under a sky.

The back is what faces away from the first camera, so that camera cannot see it: a convex solid shows a point p
with normal n to a camera at o only if n · (o − p) > 0, and n · (p − centre) ≥ 0, so nothing is seen where
n · (o − centre) < 0. The colour of the back is drawn from `BACK_COLOURS`, independently of everything else.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from datamodules.synthetic.co3d.solids import Box, Cylinder, Solid, Sphere, Vector

Colour = Float[np.ndarray, " 3"]


class BackColour(NamedTuple):
    """A possible look of the part that the first view cannot see: reflectance (RGB in [0, 1]) and probability."""

    rgb: tuple[float, float, float]
    probability: float


BACK_COLOURS: dict[str, BackColour] = {
    "red": BackColour((0.95, 0.12, 0.10), 0.4),
    "green": BackColour((0.10, 0.80, 0.20), 0.3),
    "blue": BackColour((0.15, 0.25, 1.00), 0.2),
    "yellow": BackColour((1.00, 0.85, 0.10), 0.1),
}


class Bands(NamedTuple):
    """Two colours that alternate with height; a period is one band of each."""

    colours: tuple[Colour, Colour]
    period: float


class Ground(NamedTuple):
    """Two colours that alternate along one horizontal direction (stripes), or along two (a chequerboard)."""

    colours: tuple[Colour, Colour]
    period: float
    yaw: float
    chequered: bool


class Part(NamedTuple):
    """A solid with the look of its front and its back; the back is the side that faces away from `towards`."""

    solid: Solid
    front: Bands
    back: Colour
    towards: Vector
    is_object: bool


class Scene(NamedTuple):
    """Solids on the plane y = 0, y up. The object stands at the origin and is about one unit high."""

    parts: list[Part]
    ground: Ground
    sun: Vector
    horizon: Colour
    zenith: Colour
    back_colour: str
    middle: Vector


def direction_of(azimuth: float) -> Vector:
    """Return the horizontal unit vector at an azimuth (radians about y, 0 along z)."""
    return np.array([np.sin(azimuth), 0, np.cos(azimuth)], np.float32)


def draw_scene(
    random: np.random.Generator,
    back_random: np.random.Generator,
    first_camera: Vector,
    middle: Vector,
    plain: bool = False,
) -> Scene:
    """Draw a scene for a first camera at a place that looks at `middle`.

    `back_random` draws only the colour of the back, which is therefore independent of everything visible. A
    `plain` scene is the same without patterns and companions.
    """
    names = list(BACK_COLOURS)
    back_colour = names[back_random.choice(len(names), p=[BACK_COLOURS[name].probability for name in names])]
    azimuth = float(np.arctan2(first_camera[0], first_camera[2]))
    front = Bands((_colour(random, 0.6, 0.85), _colour(random, 0.12, 0.9)), period=random.uniform(0.45, 0.7))
    if plain:
        front = front._replace(colours=(front.colours[0], front.colours[0]))
    back = np.array(BACK_COLOURS[back_colour].rgb, np.float32)
    parts = [
        Part(solid, front, back, first_camera - solid.centre, is_object=True)
        for solid in _draw_object(random, azimuth)
    ]
    companions = []
    for solid in _draw_companions(random, azimuth):
        colour = _colour(random, 0.75, 0.9)
        companions.append(
            Part(solid, Bands((colour, colour), 1.0), colour, first_camera - solid.centre, is_object=False)
        )
    if not plain:
        parts += companions
    ground = _colour(random, random.uniform(0.4, 0.8), random.uniform(0.15, 0.85))
    shade = random.uniform(0.75, 0.85)
    pattern = Ground(
        (ground, ground * np.float32(1 if plain else shade)),
        period=random.uniform(2.0, 2.8),
        yaw=random.uniform(0, np.pi),
        chequered=bool(random.random() < 0.5),
    )
    sun_height = random.uniform(1.1, 1.9)
    sun = direction_of(random.uniform(0, 2 * np.pi)) + np.array([0, sun_height, 0], np.float32)
    zenith = _colour(random, random.uniform(0.3, 0.8), random.uniform(0.3, 1.0))
    return Scene(
        parts=parts,
        ground=pattern,
        sun=sun / np.linalg.norm(sun),
        horizon=0.7 * zenith + 0.3 * zenith.max(),
        zenith=zenith,
        back_colour=back_colour,
        middle=middle,
    )


def _draw_object(random: np.random.Generator, azimuth: float) -> list[Solid]:
    """Draw a body and something smaller on top of it. Boxes stand corner on, so that two sides are hidden."""
    corner_on = azimuth + np.pi / 4 + random.uniform(-0.2, 0.2)
    height = random.uniform(0.8, 1.0)
    width = random.uniform(0.48, 0.56)
    body = int(random.integers(3))
    if body == 0:
        solids: list[Solid] = [Box(_vector(0.0, height / 2, 0.0), _vector(width, height / 2, width), corner_on)]
    elif body == 1:
        solids = [Cylinder(_vector(0.0, height / 2, 0.0), width, height / 2)]
    else:
        radius = random.uniform(0.5, 0.58)
        solids, height = [Sphere(_vector(0.0, radius, 0.0), radius)], 2 * radius - 0.04
    top = random.uniform(0.2, 0.3)
    kind = int(random.integers(3))
    if kind == 0:
        solids.append(Sphere(_vector(0.0, height + top * 0.8, 0.0), top))
    elif kind == 1:
        solids.append(Cylinder(_vector(0.0, height + top * 0.6, 0.0), top, top * 0.6))
    else:
        solids.append(
            Box(_vector(0.0, height + top * 0.7, 0.0), _vector(top * 0.9, top * 0.7, top * 0.9), corner_on)
        )
    return solids


def _draw_companions(random: np.random.Generator, azimuth: float) -> list[Solid]:
    """Draw up to one small solid on each side, where the first camera sees all of its front."""
    solids: list[Solid] = []
    for side in (-1, 1):
        if random.random() < 0.4:
            continue
        place = direction_of(azimuth + side * random.uniform(1.0, 1.5)) * random.uniform(1.1, 1.3)
        size = random.uniform(0.18, 0.26)
        x, z = float(place[0]), float(place[2])
        kind = int(random.integers(3))
        if kind == 0:
            solids.append(Sphere(_vector(x, size, z), size))
        elif kind == 1:
            solids.append(Cylinder(_vector(x, size, z), size * 0.8, size))
        else:
            solids.append(
                Box(_vector(x, size, z), _vector(size * 0.8, size, size * 0.8), random.uniform(0, np.pi))
            )
    return solids


def _vector(x: float, y: float, z: float) -> Vector:
    return np.array([x, y, z], np.float32)


def _colour(random: np.random.Generator, saturation: float, value: float) -> Colour:
    """Draw a colour of random hue."""
    hue = random.uniform(0, 2 * np.pi)
    phases = np.array([0, 2, 4]) * np.pi / 3
    wheel = np.clip(0.5 + np.cos(hue - phases), 0, 1)
    return (value * (1 - saturation + saturation * wheel)).astype(np.float32)
