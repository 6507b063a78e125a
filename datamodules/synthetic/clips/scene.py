"""The content of a synthetic clip: textured shapes that move, turn and grow in front of a textured background."""

import colorsys
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from dfm_lightning.errors import UserError

# The reach of a shape in its own unit: its outline is 1 + bulge · cos(lobes · angle).
_BULGE = 0.25
REACH = 1 + _BULGE
# Sizes of shapes, as a share of the frame's shorter side.
_RADIUS = (0.2, 0.24)


class Texture(NamedTuple):
    """Colours as a sum of waves in the plane; smooth, so that a small displacement changes little."""

    base: Float64[np.ndarray, "3"]
    frequency: Float64[np.ndarray, "k 2"]
    phase: Float64[np.ndarray, " k"]
    amplitude: Float64[np.ndarray, "k 3"]

    def colours(self, x: Float64[np.ndarray, "*p"], y: Float64[np.ndarray, "*p"]) -> Float64[np.ndarray, "*p 3"]:
        """Return RGB in [0, 1] at points of the plane."""
        waves = [
            np.sin(2 * np.pi * (x * fx + y * fy) + phase)[..., None] * amplitude
            for (fx, fy), phase, amplitude in zip(self.frequency, self.phase, self.amplitude, strict=True)
        ]
        return np.clip(self.base + sum(waves), 0, 1)


class Shape(NamedTuple):
    """A shape in the first frame: outline, place (x, y) and radius in pixels, angle in radians."""

    lobes: int
    texture: Texture
    place: Float64[np.ndarray, "2"]
    radius: float
    angle: float

    def covers(self, x: Float64[np.ndarray, "*p"], y: Float64[np.ndarray, "*p"]) -> np.ndarray:
        """Tell whether points, in the shape's own coordinates, lie on it."""
        return np.hypot(x, y) <= 1 + _BULGE * np.cos(self.lobes * np.arctan2(y, x))


class Movement(NamedTuple):
    """A shape's movement from the first frame to the last: the direction's number, way in pixels, turn, growth."""

    direction: int
    way: Float64[np.ndarray, "2"]
    turn: float
    growth: float


class SceneLimits(NamedTuple):
    """The range of movements in a clip. `travel` is in pixels, `turn` in radians."""

    height: int
    width: int
    shapes: int
    travel: tuple[float, float]
    turn: float
    growth: float

    def margin(self) -> float:
        """Return how far from the frame's edge shapes start, so that none reaches it on any way."""
        return _RADIUS[1] * min(self.height, self.width) * REACH * self.growth + self.travel[1]

    def check(self) -> None:
        """Raise UserError if shapes do not fit."""
        if min(self.height, self.width) <= 2 * self.margin():
            raise UserError(
                f"shapes that travel {self.travel[1]:.1f} pixels do not stay in frames of "
                f"{self.width}×{self.height}: lower travel or growth"
            )


def draw_background(random: np.random.Generator, limits: SceneLimits) -> Texture:
    """Draw a dull texture, in pixels; its waves are from a quarter to half of the frame's shorter side."""
    side = min(limits.height, limits.width)
    hue, value = random.uniform(), random.uniform(0.3, 0.45)
    return _texture(random, (hue, 0.4, value), wavelengths=(side / 4, side / 2), contrast=0.12)


def draw_shape(random: np.random.Generator, limits: SceneLimits) -> Shape:
    """Draw a bright shape at a place from which it can move in any direction."""
    margin = limits.margin()
    place = np.array([random.uniform(margin, size - 1 - margin) for size in (limits.width, limits.height)])
    colour = (random.uniform(), random.uniform(0.5, 0.9), random.uniform(0.7, 0.95))
    return Shape(
        lobes=int(random.integers(2, 6)),
        texture=_texture(random, colour, wavelengths=(1.5, 3.0), contrast=0.25),
        place=place,
        radius=random.uniform(*_RADIUS) * min(limits.height, limits.width),
        angle=random.uniform(0, 2 * np.pi),
    )


def draw_movement(
    random: np.random.Generator, limits: SceneLimits, degrees: list[float], probabilities: list[float]
) -> Movement:
    """Draw the direction by its probabilities; travel and turn are uniform, growth is uniform in its logarithm."""
    direction = int(random.choice(len(degrees), p=np.array(probabilities) / sum(probabilities)))
    travel, angle = random.uniform(*limits.travel), np.deg2rad(degrees[direction])
    growth = np.exp(random.uniform(-1, 1) * np.log(limits.growth))
    turn = random.uniform(-limits.turn, limits.turn)
    return Movement(direction, travel * np.array([np.cos(angle), np.sin(angle)]), float(turn), float(growth))


def pose(shape: Shape, movement: Movement, part: float) -> Float64[np.ndarray, "2 3"]:
    """Return the affine map from a shape's own coordinates to pixels after a part of the movement."""
    angle, scale = shape.angle + part * movement.turn, shape.radius * movement.growth**part
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    place = shape.place + part * movement.way
    return np.array([[cosine, -sine, place[0]], [sine, cosine, place[1]]])


def _texture(
    random: np.random.Generator,
    hsv: tuple[float, float, float],
    wavelengths: tuple[float, float],
    contrast: float,
    waves: int = 4,
) -> Texture:
    angle, length = random.uniform(0, np.pi, waves), random.uniform(*wavelengths, waves)
    return Texture(
        base=np.array(colorsys.hsv_to_rgb(*hsv)),
        frequency=np.stack([np.cos(angle), np.sin(angle)], axis=1) / length[:, None],
        phase=random.uniform(0, 2 * np.pi, waves),
        amplitude=contrast * random.uniform(-1, 1, (waves, 3)),
    )
