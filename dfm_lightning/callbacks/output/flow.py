"""Flow fields as files and as pictures: .flo and the colour wheel of the Middlebury benchmark."""

from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.files import whole_file

# The first bytes of every .flo file (Baker et al. 2007); little-endian, they read "PIEH".
_FLO_TAG = 202021.25
# The wheel's six parts: from one pure or mixed colour to the next, in this many steps, while one channel rises (+)
# or falls (−).
_WHEEL_PARTS = ((15, "+", "g"), (6, "-", "r"), (4, "+", "b"), (11, "-", "g"), (13, "+", "r"), (6, "-", "b"))


def write_flo(path: Path, flow: Float[Tensor, "2 h w"]) -> None:
    """Write a whole .flo file: tag, width, height, and x and y of each pixel's displacement, row by row."""
    _, height, width = flow.shape
    with whole_file(path) as aside, aside.open("wb") as file:
        np.array([_FLO_TAG], "<f4").tofile(file)
        np.array([width, height], "<i4").tofile(file)
        flow.detach().float().cpu().permute(1, 2, 0).contiguous().numpy().astype("<f4").tofile(file)


def flow_colours(flow: Float[Tensor, "2 h w"], full: float) -> RGB:
    """Colour displacements: the direction is the hue, the length the saturation (Baker et al. 2007).

    No motion is white, and `full` pixels have the wheel's own colours; longer ones are darkened. Right is red,
    down yellow, left blue-green, up violet. Values that are not finite are black.
    """
    vectors = flow.detach().double().cpu().numpy() / max(full, 1e-12)
    known = np.asarray(np.isfinite(vectors).all(axis=0))
    x, y = np.where(known, vectors, 0)
    length, wheel = np.hypot(x, y)[..., None], _wheel()
    place = (np.arctan2(-y, -x) / np.pi + 1) / 2 * (len(wheel) - 1)
    below = np.floor(place).astype(int)
    part = (place - below)[..., None]
    hue = (1 - part) * wheel[below] + part * wheel[(below + 1) % len(wheel)]
    colour = np.where(length <= 1, 1 - length * (1 - hue), 0.75 * hue)
    return np.where(known[..., None], np.floor(255 * colour), 0).astype(np.uint8)


@cache
def _wheel() -> Float32[np.ndarray, "55 3"]:
    """Return the colours around the wheel, in [0, 1], starting with red."""
    colour, wheel = np.array([255.0, 0.0, 0.0]), []
    for steps, sign, channel in _WHEEL_PARTS:
        index = "rgb".index(channel)
        for step in range(steps):
            change = np.floor(255 * step / steps)
            colour[index] = change if sign == "+" else 255 - change
            wheel.append(colour.copy())
        colour[index] = 255.0 if sign == "+" else 0.0
    return (np.array(wheel) / 255).astype(np.float32)
