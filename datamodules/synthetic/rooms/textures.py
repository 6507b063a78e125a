"""Procedural textures: colours as functions of the position on a face, in metres, and a seed."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from datamodules.synthetic.rooms.world import Colour, Surface

Values = Float[np.ndarray, " n"]
Colours = Float[np.ndarray, "n 3"]


class Face(NamedTuple):
    """Positions on faces: u to the right, v upward from the face's lower edge, and the faces' extent in both."""

    u: Values
    v: Values
    width: Values
    height: Values


def hashed(x: Values, y: Values, seed: int) -> Values:
    """Return a pseudo-random number in [0, 1) for each pair of whole numbers."""
    with np.errstate(over="ignore"):
        h = x.astype(np.int64).astype(np.uint32) * np.uint32(374761393)
        h += y.astype(np.int64).astype(np.uint32) * np.uint32(668265263)
        h += np.uint32(seed * 2246822519 % 2**32)
        h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
        h = (h ^ (h >> np.uint32(15))) * np.uint32(2246822519)
        h ^= h >> np.uint32(16)
    return (h >> np.uint32(8)).astype(np.float32) / np.float32(2**24)


def noise(x: Values, y: Values, seed: int) -> Values:
    """Draw smooth value noise in [0, 1] with a feature size of 1."""
    column, row = np.floor(x), np.floor(y)
    fx, fy = x - column, y - row
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    top = hashed(column, row, seed) * (1 - fx) + hashed(column + 1, row, seed) * fx
    bottom = hashed(column, row + 1, seed) * (1 - fx) + hashed(column + 1, row + 1, seed) * fx
    return top * (1 - fy) + bottom * fy


def fractal(x: Values, y: Values, seed: int) -> Values:
    """Draw three octaves of noise in [0, 1]."""
    total = noise(x, y, seed) * 4 + noise(x * 2, y * 2, seed + 1) * 2 + noise(x * 4, y * 4, seed + 2)
    return total / 7


def blend(first: Colour | Colours, second: Colour | Colours, amount: Values) -> Colours:
    """Mix colours: the first where the amount is 0, the second where it is 1."""
    a, b = np.asarray(first, np.float32), np.asarray(second, np.float32)
    return a + (b - a) * np.clip(amount, 0.0, 1)[:, None]


def shade(colours: Colours, factor: Values) -> Colours:
    """Multiply colours by a factor each."""
    return colours * factor[:, None]


def band(x: Values, low: float | Values, high: float | Values) -> Values:
    """Return 1 where low <= x < high, else 0."""
    return ((x >= low) & (x < high)).astype(np.float32)


def border(face: Face, margin: float) -> Values:
    """Return 1 within a margin of the face's edges, else 0."""
    inside = (face.u >= margin) & (face.u < face.width - margin)
    inside &= (face.v >= margin) & (face.v < face.height - margin)
    return 1 - inside.astype(np.float32)


def plain(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw paint, a little uneven."""
    flat = np.broadcast_to(np.asarray(colours[0], np.float32), (len(face.u), 3))
    return shade(flat, 0.96 + 0.08 * fractal(face.u * 3, face.v * 3, seed))


def skirted(inner: Callable[[Face, tuple[Colour, ...], int], Colours]) -> Callable[..., Colours]:
    """Draw a wall with a white skirting board."""

    def texture(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
        board = blend((0.86, 0.85, 0.82), (0.6, 0.59, 0.56), band(face.v, 0.1, 0.12))
        return blend(inner(face, colours, seed), board, band(face.v, 0.0, 0.12))

    return texture


def stripes(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw wallpaper with upright stripes of two widths."""
    period = 0.22 + 0.2 * float(hashed(np.zeros(1), np.zeros(1), seed)[0])
    phase = np.mod(face.u, period) / period
    paper = blend(colours[0], colours[1], band(phase, 0.0, 0.45))
    return shade(
        blend(paper, colours[1], band(phase, 0.7, 0.76)), 0.97 + 0.06 * noise(face.u * 9, face.v * 9, seed)
    )


def dots(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw wallpaper with blossoms in a staggered grid."""
    period = 0.34
    row = np.floor(face.v / period)
    u = np.mod(face.u + period / 2 * np.mod(row, 2), period) - period / 2
    v = np.mod(face.v, period) - period / 2
    radius = np.hypot(u, v) / (0.085 * (1 + 0.3 * np.cos(5 * np.arctan2(v, u))))
    paper = blend(colours[0], colours[1], band(radius, 0.0, 1.0))
    return blend(paper, colours[0], band(radius, 0.0, 0.35) * 0.8)


def dado(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw panels up to a rail and paint above."""
    phase = np.mod(face.u, 0.6)
    groove = band(phase, 0.06, 0.08) + band(phase, 0.52, 0.54)
    panels = blend(colours[1], (0.25, 0.22, 0.2), groove * band(face.v, 0.18, 0.85) * 0.5)
    rail = band(face.v, 0.92, 1.0)
    lower = blend(panels, (0.93, 0.92, 0.9), rail)
    return blend(plain(face, colours, seed), lower, band(face.v, 0.0, 1.0))


def bricks(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw brickwork with pale joints."""
    row = np.floor(face.v / 0.09)
    u = face.u + 0.13 * np.mod(row, 2)
    column = np.floor(u / 0.26)
    brick = shade(
        blend(colours[0], colours[1], hashed(column, row, seed)), 0.85 + 0.3 * fractal(u * 12, face.v * 12, seed)
    )
    joint = 1 - band(np.mod(u, 0.26), 0.012, 0.248) * band(np.mod(face.v, 0.09), 0.012, 0.078)
    return blend(brick, (0.72, 0.7, 0.66), joint)


def planks(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw floorboards of changing tone with a grain along them."""
    row = np.floor(face.v / 0.16)
    u = face.u + 3.7 * hashed(row, row * 0, seed)
    column = np.floor(u / 1.3)
    tone = 0.75 + 0.4 * hashed(column, row, seed + 7)
    grain = fractal(u * 1.5 + 10 * row, face.v * 45, seed)
    boards = shade(blend(colours[0], colours[1], grain), tone)
    joint = 1 - band(np.mod(u, 1.3), 0.006, 1.294) * band(np.mod(face.v, 0.16), 0.006, 0.154)
    return shade(boards, 1 - 0.55 * joint)


def tiles(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw square tiles in two colours with joints."""
    size = 0.45
    column, row = np.floor(face.u / size), np.floor(face.v / size)
    tile = blend(colours[0], colours[1], np.mod(column + row, 2))
    tile = shade(tile, 0.92 + 0.12 * fractal(face.u * 5, face.v * 5, seed) + 0.06 * hashed(column, row, seed))
    joint = 1 - band(np.mod(face.u, size), 0.01, size - 0.01) * band(np.mod(face.v, size), 0.01, size - 0.01)
    return blend(tile, (0.45, 0.44, 0.42), joint)


def carpet(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw carpet with a speckled pile."""
    return blend(
        colours[0], colours[1], fractal(face.u * 30, face.v * 30, seed) * 0.8 + noise(face.u, face.v, seed) * 0.2
    )


def rug(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw a rug with a border and bands across."""
    period = 0.25 + 0.3 * float(hashed(np.ones(1), np.zeros(1), seed)[0])
    phase = np.mod(face.u + 0.06 * np.abs(np.mod(face.v * 8, 2) - 1), period) / period
    pattern = blend(blend(colours[0], colours[1], band(phase, 0.2, 0.5)), colours[2], band(phase, 0.65, 0.8))
    edged = blend(pattern, colours[2], border(face, 0.16))
    return shade(blend(edged, colours[0], border(face, 0.06)), 0.85 + 0.3 * noise(face.u * 60, face.v * 60, seed))


def wood(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw polished wood with its grain along the longer side."""
    lying = face.width >= face.height
    along, across = np.where(lying, face.u, face.v), np.where(lying, face.v, face.u)
    return blend(colours[0], colours[1], fractal(along * 2.5, across * 40, seed))


def fabric(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw woven cloth, darker at its seams."""
    weave = 0.9 + 0.2 * noise(face.u * 70, face.v * 70, seed) - 0.06 * noise(face.u * 4, face.v * 4, seed + 1)
    flat = np.broadcast_to(np.asarray(colours[0], np.float32), (len(face.u), 3))
    return shade(flat, weave * (1 - 0.25 * border(face, 0.02)))


def checked(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw checked cloth."""
    across = band(np.mod(face.u, 0.24), 0.0, 0.12) + band(np.mod(face.v, 0.24), 0.0, 0.12)
    return shade(blend(colours[0], colours[1], across / 2), 0.9 + 0.2 * noise(face.u * 60, face.v * 60, seed))


def books(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw shelves full of books; `colours` are the shelf and two ends of the books' range."""
    pitch = 0.36
    shelf, height = np.floor(face.v / pitch), np.mod(face.v, pitch)
    wobble = face.u / 0.045 + 1.5 * noise(face.u * 9, shelf * 7, seed)
    book = np.floor(wobble)
    hue, tone = hashed(book, shelf, seed), hashed(book, shelf, seed + 1)
    spines = np.stack([hashed(book, shelf, seed + channel) for channel in (3, 4, 5)], axis=-1)
    coloured = shade(blend(blend(colours[1], colours[2], hue), spines, hue * 0 + 0.45), 0.45 + 0.7 * tone)
    tall = band(height, 0.03, 0.2 + 0.12 * hashed(book, shelf, seed + 2)) * band(wobble - book, 0.06, 0.96)
    titled = band(height, 0.12, 0.15) * band(tone, 0.4, 1.0)
    coloured = blend(coloured, (0.9, 0.85, 0.7), titled)
    back = shade(np.full_like(coloured, colours[0]), np.full_like(tone, 0.35))
    return blend(blend(back, coloured, tall), colours[0], np.maximum(band(height, 0.0, 0.03), border(face, 0.03)))


def panels(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw cupboard or room doors: recessed panels side by side, with handles."""
    count = np.maximum(np.round(face.width / 0.55), 1)
    leaf = face.width / count
    u = np.mod(face.u, leaf)
    inside = Face(u, face.v, leaf, face.height)
    rim = border(inside, 0.08) - border(inside, 0.1)
    lines = np.maximum(border(inside, 0.008), np.abs(rim))
    handle = band(np.abs(u - leaf + 0.05), 0.0, 0.018) * band(np.abs(face.v - face.height / 2), 0.0, 0.08)
    wooden = blend(colours[0], colours[1], fractal(face.u * 40, face.v * 2.5, seed))
    return blend(shade(wooden, 1 - 0.45 * lines), (0.75, 0.7, 0.55), handle)


def painting(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw a framed abstract picture: a ground that shades off, two discs and a bar."""
    u, v = face.u / face.width, face.v / face.height
    centres = hashed(np.arange(6.0), np.zeros(6), seed).tolist()
    picture = blend(colours[0], colours[1], v + 0.4 * (fractal(u * 3, v * 3, seed) - 0.5))
    for disc in range(2):
        distance = np.hypot(
            (u - 0.2 - 0.6 * centres[disc]) * face.width / face.height, v - 0.2 - 0.6 * centres[2 + disc]
        )
        picture = blend(picture, colours[2 + disc], band(distance, 0.0, 0.14 + 0.12 * centres[4 + disc]))
    slanted = v - 0.3 * u
    picture = blend(picture, colours[4], band(slanted, centres[0] * 0.5, centres[0] * 0.5 + 0.07))
    framed = blend(picture, (0.93, 0.92, 0.88), border(face, 0.07))
    return blend(framed, (0.16, 0.11, 0.07), border(face, 0.03))


def window(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw a window by day: sky above hills, behind white bars."""
    u, v = face.u / face.width, face.v / face.height
    clouds = np.clip(fractal(face.u * 2, face.v * 5, seed) * 2.5 - 1.1, 0.0, 1)
    sky = blend(blend((0.85, 0.92, 1.0), (0.5, 0.72, 0.98), v), (1.0, 1.0, 1.0), clouds)
    horizon = 0.28 + 0.14 * noise(u * 3, v * 0, seed + 3)
    hills = shade(blend(colours[0], colours[1], fractal(face.u * 12, face.v * 12, seed)), 0.6 + v)
    view = blend(sky, hills, band(v, 0.0, horizon))
    bars = np.maximum(
        band(np.abs(u - 0.5) * face.width, 0.0, 0.025), band(np.abs(v - 0.55) * face.height, 0.0, 0.025)
    )
    return blend(view, (0.92, 0.92, 0.9), np.maximum(bars, border(face, 0.06)))


def screen(face: Face, colours: tuple[Colour, ...], seed: int) -> Colours:
    """Draw a television that is switched off, with a faint reflection."""
    glare = np.clip(1 - np.abs(face.u / face.width - face.v / face.height) * 3, 0.0, 1)
    return blend(blend((0.03, 0.03, 0.04), (0.16, 0.18, 0.22), glare), (0.01, 0.01, 0.01), border(face, 0.025))


TEXTURES: dict[str, Callable[[Face, tuple[Colour, ...], int], Colours]] = {
    "plain": plain,
    "paint": skirted(plain),
    "stripes": skirted(stripes),
    "dots": skirted(dots),
    "dado": skirted(dado),
    "bricks": skirted(bricks),
    "planks": planks,
    "tiles": tiles,
    "carpet": carpet,
    "rug": rug,
    "wood": wood,
    "fabric": fabric,
    "checked": checked,
    "books": books,
    "panels": panels,
    "painting": painting,
    "window": window,
    "screen": screen,
}


def albedo(surface: Surface, face: Face) -> Colours:
    """Return the colours of a surface at positions on its faces, linear, in [0, 1]."""
    return np.clip(TEXTURES[surface.texture](face, surface.colours, surface.seed), 0.0, 1) ** np.float32(2.2)
