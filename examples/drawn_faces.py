"""Faces drawn from a few numbers: what the generator of the GAN-inversion demo is fitted to.

Each number is one attribute that a picture shows clearly (skin, hair, eyes, glasses, hat, background and so on),
independent of the others, so that a part of a face says little about the rest.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Face(NamedTuple):
    """The attributes of faces, each uniform in [0, 1]; `draw_faces` says what they do."""

    skin: Float[Tensor, " b"]
    background: Float[Tensor, " b"]
    brightness: Float[Tensor, " b"]
    hair: Float[Tensor, " b"]
    hair_length: Float[Tensor, " b"]
    eyes: Float[Tensor, " b"]
    glasses: Float[Tensor, " b"]
    hat: Float[Tensor, " b"]
    hat_colour: Float[Tensor, " b"]
    smile: Float[Tensor, " b"]
    width: Float[Tensor, " b"]
    shirt: Float[Tensor, " b"]


ATTRIBUTES = len(Face._fields)


def faces_from_noise(z: Float[Tensor, "b attributes"]) -> Face:
    """The attributes of each row of standard normal noise: its values through the normal distribution function.

    Rows are first brought to a mean square of one, as StyleGAN2's mapping network does, so that a generator with
    `ATTRIBUTES` latent numbers can tell all there is to know.
    """
    z = z * z.square().mean(dim=1, keepdim=True).rsqrt()
    return Face(*torch.special.ndtr(z).unbind(1))


def appearance(face: Face) -> Float[Tensor, "b numbers"]:
    """All that `draw_faces` paints with: colours in [-1, 1], what is there or not as ±1, and the two shapes."""
    colours = torch.cat(list(_colours(face)), dim=1)
    present = torch.stack([face.glasses > 0.5, face.hat > 0.5, face.hair_length > 0.5], dim=1).to(colours)
    shapes = torch.stack([face.smile, face.width], dim=1)
    return torch.cat([colours, present, shapes], dim=1) * 2 - 1


class _Colours(NamedTuple):
    skin: Float[Tensor, "b 3"]
    hair: Float[Tensor, "b 3"]
    eyes: Float[Tensor, "b 3"]
    background: Float[Tensor, "b 3"]
    hat: Float[Tensor, "b 3"]
    shirt: Float[Tensor, "b 3"]


def _colours(face: Face) -> _Colours:
    return _Colours(
        skin=_scale(face.skin, [(0.98, 0.85, 0.74), (0.8, 0.58, 0.42), (0.36, 0.22, 0.15)]),
        hair=_scale(face.hair, [(0.95, 0.85, 0.45), (0.75, 0.3, 0.12), (0.3, 0.17, 0.1), (0.08, 0.07, 0.1)]),
        eyes=_scale(face.eyes, [(0.2, 0.45, 0.9), (0.2, 0.65, 0.35), (0.4, 0.22, 0.1)]),
        background=_hue(face.background, 0.5, 0.45 + 0.5 * face.brightness),
        hat=_hue(face.hat_colour, 0.85, 0.8),
        shirt=_hue(face.shirt, 0.75, 0.75),
    )


class _Canvas:
    """Images that shapes are painted on, one over the other; x to the right and y down, both in [-1, 1]."""

    def __init__(self, batch: int, resolution: int, like: Tensor) -> None:
        centres = (torch.arange(resolution, dtype=like.dtype, device=like.device) + 0.5) / resolution * 2 - 1
        self.y, self.x = torch.meshgrid(centres, centres, indexing="ij")
        self.edge = 2 / resolution
        self.image = torch.zeros(batch, 3, resolution, resolution, dtype=like.dtype, device=like.device)

    def inside(self, distance: Tensor) -> Tensor:
        """How much of each pixel is inside a shape, given the signed distance to its edge (negative inside)."""
        return (0.5 - distance / self.edge).clamp(0, 1)

    def paint(self, coverage: Tensor, colour: Float[Tensor, "b 3"]) -> None:
        """Cover part of each pixel by a colour."""
        coverage = coverage.expand(len(self.image), *self.x.shape)[:, None]
        self.image = self.image + coverage * (colour[:, :, None, None] - self.image)

    def ellipse(self, x: Tensor | float, y: float, width: Tensor | float, height: float) -> Tensor:
        """Signed distance to an ellipse, exact at its edge to first order."""
        dx, dy = (self.x - x) / width, (self.y - y) / height
        radius = (dx**2 + dy**2 + 1e-12).sqrt()
        slope = ((dx / width) ** 2 + (dy / height) ** 2 + 1e-12).sqrt() / radius
        return (radius - 1) / slope

    def box(self, left: float, top: float, right: float, bottom: Tensor | float) -> Tensor:
        """Signed distance to a box, measured along the axes."""
        horizontal = torch.maximum(left - self.x, self.x - right)
        return torch.maximum(horizontal, torch.maximum(top - self.y, self.y - bottom))


def draw_faces(face: Face, resolution: int = 64) -> Float[Tensor, "b 3 resolution resolution"]:
    """Paint faces, in [-1, 1]; edges are smooth over one pixel.

    `skin`, `hair`, `eyes`, `background`, `hat_colour` and `shirt` choose a colour from a scale, `brightness` is
    the background's. Above one half, `glasses` and `hat` put them on and `hair_length` makes hair long. `smile`
    bends the mouth, `width` widens the head.
    """
    canvas, colours = _Canvas(len(face.skin), resolution, face.skin), _colours(face)
    canvas.paint(torch.ones_like(canvas.x), colours.background)
    _paint_body_and_hair(canvas, face, colours)
    _paint_features(canvas, face, colours)
    _paint_glasses_and_hat(canvas, face, colours)
    return canvas.image * 2 - 1


def _paint_body_and_hair(canvas: _Canvas, face: Face, colours: _Colours) -> None:
    width = _column(0.44 + 0.08 * face.width)
    length = _column(torch.where(face.hair_length > 0.5, 0.85, 0.2))
    around = canvas.ellipse(0.0, -0.12, width + 0.13, 0.7)
    canvas.paint(canvas.inside(around), colours.hair)
    canvas.paint(canvas.inside(canvas.box(-0.66, -0.15, 0.66, length)), colours.hair)
    canvas.paint(canvas.inside(canvas.ellipse(0.0, 1.1, 0.8, 0.42)), colours.shirt)
    canvas.paint(canvas.inside(canvas.box(-0.16, 0.4, 0.16, 0.8)), colours.skin * 0.85)
    canvas.paint(canvas.inside(canvas.ellipse(0.0, 0.06, width, 0.58)), colours.skin)
    fringe = torch.maximum(around, canvas.y + 0.32 + 0.25 * canvas.x**2)
    canvas.paint(canvas.inside(fringe), colours.hair)


def _paint_features(canvas: _Canvas, face: Face, colours: _Colours) -> None:
    white = torch.ones_like(colours.skin)
    for side in (-0.2, 0.2):
        canvas.paint(canvas.inside(canvas.ellipse(side, 0.0, 0.14, 0.1)), white)
        canvas.paint(canvas.inside(canvas.ellipse(side, 0.0, 0.085, 0.085)), colours.eyes)
        canvas.paint(canvas.inside(canvas.ellipse(side, 0.0, 0.035, 0.035)), 0 * white)
        canvas.paint(canvas.inside(canvas.ellipse(side, -0.17, 0.14, 0.03)), colours.hair * 0.6)
    canvas.paint(canvas.inside(canvas.ellipse(0.0, 0.19, 0.05, 0.07)), colours.skin * 0.8)
    bend = _column(face.smile - 0.35)
    mouth = (canvas.y - 0.42 - bend * 0.12 + bend * 4 * canvas.x**2).abs() - 0.04
    lips = torch.maximum(mouth, canvas.x.abs() - 0.24)
    canvas.paint(canvas.inside(lips), colours.skin * torch.tensor([0.8, 0.3, 0.35]).to(white))


def _paint_glasses_and_hat(canvas: _Canvas, face: Face, colours: _Colours) -> None:
    glasses, hat = _column((face.glasses > 0.5).to(face.skin)), _column((face.hat > 0.5).to(face.skin))
    black = torch.full_like(colours.skin, 0.05)
    for side in (-0.2, 0.2):
        rim = canvas.ellipse(side, 0.01, 0.19, 0.17).abs() - 0.03
        canvas.paint(canvas.inside(rim) * glasses, black)
    canvas.paint(canvas.inside(canvas.box(-0.06, -0.03, 0.06, 0.03)) * glasses, black)
    dome = torch.maximum(canvas.ellipse(0.0, -0.4, 0.58, 0.52), canvas.y + 0.4)
    canvas.paint(canvas.inside(dome) * hat, colours.hat)
    canvas.paint(canvas.inside(canvas.box(-0.78, -0.46, 0.78, -0.34)) * hat, colours.hat * 0.6)


def _column(values: Float[Tensor, " b"]) -> Float[Tensor, "b 1 1"]:
    return values[:, None, None]


def _scale(position: Float[Tensor, " b"], colours: list[tuple[float, float, float]]) -> Float[Tensor, "b 3"]:
    """A colour between the neighbours on a scale of colours, at a position from 0 to 1."""
    table = torch.tensor(colours, dtype=position.dtype, device=position.device)
    place = position * (len(colours) - 1)
    below = place.floor().long().clamp(max=len(colours) - 2)
    return torch.lerp(table[below], table[below + 1], (place - below)[:, None])


def _hue(
    position: Float[Tensor, " b"], saturation: float, value: Float[Tensor, " b"] | float
) -> Float[Tensor, "b 3"]:
    """Red, yellow, green, cyan, blue, magenta along the scale, of a saturation and a brightness."""
    scale = [(1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.0, 1.0, 1.0), (0.0, 0.0, 1.0), (1.0, 0.0, 1.0)]
    colour = 1 - saturation + saturation * _scale(position, scale)
    return colour * (value[:, None] if isinstance(value, Tensor) else value)
