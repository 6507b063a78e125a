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
    canvas = _Canvas(len(face.skin), resolution, face.skin)
    canvas.paint(torch.ones_like(canvas.x), _hue(face.background, 0.5, 0.45 + 0.5 * face.brightness))
    _paint_body_and_hair(canvas, face)
    _paint_features(canvas, face)
    _paint_glasses_and_hat(canvas, face)
    return canvas.image * 2 - 1


def _paint_body_and_hair(canvas: _Canvas, face: Face) -> None:
    skin, hair = _skin(face.skin), _hair(face.hair)
    width = _column(0.42 + 0.08 * face.width)
    length = _column(torch.where(face.hair_length > 0.5, 0.85, 0.2))
    canvas.paint(canvas.inside(canvas.ellipse(0, -0.12, width + 0.13, 0.7)), hair)
    canvas.paint(canvas.inside(canvas.box(-0.6, -0.15, 0.6, length)), hair)
    canvas.paint(canvas.inside(canvas.ellipse(0, 1.1, 0.8, 0.42)), _hue(face.shirt, 0.75, 0.75))
    canvas.paint(canvas.inside(canvas.box(-0.16, 0.4, 0.16, 0.8)), skin * 0.85)
    canvas.paint(canvas.inside(canvas.ellipse(0, 0.08, width, 0.56)), skin)
    fringe = torch.maximum(canvas.ellipse(0, -0.12, width + 0.13, 0.7), canvas.y + 0.3 + 0.25 * canvas.x**2)
    canvas.paint(canvas.inside(fringe), hair)


def _paint_features(canvas: _Canvas, face: Face) -> None:
    skin, white = _skin(face.skin), torch.ones_like(_skin(face.skin))
    for side in (-0.19, 0.19):
        canvas.paint(canvas.inside(canvas.ellipse(side, 0.0, 0.12, 0.08)), white)
        canvas.paint(canvas.inside(canvas.ellipse(side, 0.0, 0.07, 0.07)), _eyes(face.eyes))
        canvas.paint(canvas.inside(canvas.ellipse(side, 0.0, 0.03, 0.03)), 0 * white)
        canvas.paint(canvas.inside(canvas.ellipse(side, -0.14, 0.12, 0.025)), _hair(face.hair) * 0.6)
    canvas.paint(canvas.inside(canvas.ellipse(0, 0.17, 0.05, 0.07)), skin * 0.8)
    bend = _column(face.smile - 0.35)
    mouth = (canvas.y - 0.4 - bend * 0.12 + bend * 4 * canvas.x**2).abs() - 0.03
    lips = torch.maximum(mouth, canvas.x.abs() - 0.2)
    canvas.paint(canvas.inside(lips), skin * torch.tensor([0.8, 0.3, 0.35]).to(skin))


def _paint_glasses_and_hat(canvas: _Canvas, face: Face) -> None:
    glasses, hat = _column((face.glasses > 0.5).to(face.skin)), _column((face.hat > 0.5).to(face.skin))
    black = torch.zeros_like(_skin(face.skin)) + 0.05
    for side in (-0.19, 0.19):
        rim = canvas.ellipse(side, 0.01, 0.16, 0.14).abs() - 0.025
        canvas.paint(canvas.inside(rim) * glasses, black)
    canvas.paint(canvas.inside(canvas.box(-0.06, -0.03, 0.06, 0.02)) * glasses, black)
    colour = _hue(face.hat_colour, 0.85, 0.8)
    dome = torch.maximum(canvas.ellipse(0, -0.4, 0.56, 0.52), canvas.y + 0.4)
    canvas.paint(canvas.inside(dome) * hat, colour)
    canvas.paint(canvas.inside(canvas.box(-0.75, -0.46, 0.75, -0.34)) * hat, colour * 0.6)


def _column(values: Float[Tensor, " b"]) -> Float[Tensor, "b 1 1"]:
    return values[:, None, None]


def _scale(position: Float[Tensor, " b"], colours: list[tuple[float, float, float]]) -> Float[Tensor, "b 3"]:
    """A colour between the neighbours on a scale of colours, at a position from 0 to 1."""
    table = torch.tensor(colours, dtype=position.dtype, device=position.device)
    place = position * (len(colours) - 1)
    below = place.floor().long().clamp(max=len(colours) - 2)
    return torch.lerp(table[below], table[below + 1], (place - below)[:, None])


def _skin(position: Float[Tensor, " b"]) -> Float[Tensor, "b 3"]:
    return _scale(position, [(0.98, 0.85, 0.74), (0.8, 0.58, 0.42), (0.36, 0.22, 0.15)])


def _hair(position: Float[Tensor, " b"]) -> Float[Tensor, "b 3"]:
    return _scale(position, [(0.95, 0.85, 0.45), (0.75, 0.3, 0.12), (0.3, 0.17, 0.1), (0.08, 0.07, 0.1)])


def _eyes(position: Float[Tensor, " b"]) -> Float[Tensor, "b 3"]:
    return _scale(position, [(0.2, 0.45, 0.9), (0.2, 0.65, 0.35), (0.4, 0.22, 0.1)])


def _hue(
    position: Float[Tensor, " b"], saturation: float, value: Float[Tensor, " b"] | float
) -> Float[Tensor, "b 3"]:
    """Red, yellow, green, cyan, blue, magenta along the scale, of a saturation and a brightness."""
    scale = [(1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.0, 1.0, 1.0), (0.0, 0.0, 1.0), (1.0, 0.0, 1.0)]
    colour = 1 - saturation + saturation * _scale(position, scale)
    return colour * (value[:, None] if isinstance(value, Tensor) else value)
