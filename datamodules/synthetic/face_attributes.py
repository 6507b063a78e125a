"""The attributes of a drawn face, read from fixed places of the image."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Colours that differ by less than this on average count as equal, on the scale of [0, 1].
SAME_COLOUR = 0.1
# Something counts as present if its colour differs by this from that of its absence.
NOTICED = 0.08
# Glasses are black: this much darker than the cheek below them.
DARK = 0.65


class Place(NamedTuple):
    """A rectangle of the image's right half, x to the right and y down, both in [-1, 1]; faces are symmetric."""

    left: float
    top: float
    right: float
    bottom: float


class Reading(NamedTuple):
    """The place of an attribute: its colour there, or the place it is compared with to tell whether it is
    present.
    """

    at: Place
    beside: Place | None = None


CHEEK = Place(0.26, 0.24, 0.36, 0.34)
READINGS = {
    "background": Reading(Place(0.82, -1.0, 1.0, -0.6)),
    "shirt": Reading(Place(0.28, 0.85, 0.46, 1.0)),
    "skin": Reading(CHEEK),
    "hair": Reading(Place(0.56, -0.1, 0.64, 0.1)),
    "hat": Reading(Place(0.68, -0.44, 0.74, -0.36), Place(0.68, -0.72, 0.74, -0.54)),
    "long hair": Reading(Place(0.56, 0.4, 0.62, 0.6), Place(0.78, 0.4, 0.94, 0.6)),
    "glasses": Reading(Place(0.17, 0.15, 0.23, 0.21), CHEEK),
}


class FaceAttributes:
    """A reader of attributes in images of drawn faces, of 32 pixels or more.

    It reads colours (skin, hair, shirt, background) and the presence of hat, glasses and long hair, each on the
    left and on the right side, which a small patch may show alone.
    """

    def regions(self, size: tuple[int, int]) -> dict[str, Bool[Tensor, "h w"]]:
        """Return the pixels that each reading uses, in images of a height and width."""
        found = {}
        for name, reading in READINGS.items():
            for side in ("left", "right"):
                at, beside = (_pixels(place, side, size) for place in (reading.at, reading.beside or reading.at))
                found[f"{name}, {side}"] = at | beside
        return found

    def agree(
        self, images: Float[Tensor, "n 3 h w"], truth: Float[Tensor, "3 h w"]
    ) -> dict[str, Bool[Tensor, " n"]]:
        """Tell, by reading, whether each image in [-1, 1] has the attribute as the true one has it."""
        there, true = self.read(images), self.read(truth[None])
        return {name: (value - true[name]).abs().mean(dim=1) < SAME_COLOUR for name, value in there.items()}

    def read(self, images: Float[Tensor, "n 3 h w"]) -> dict[str, Float[Tensor, "n values"]]:
        """Read the colour [n 3] in [0, 1], or presence [n 1] as 1 or 0."""
        unit = (images.clamp(-1, 1) + 1) / 2
        values = {}
        for name, reading in READINGS.items():
            for side in ("left", "right"):
                values[f"{name}, {side}"] = _read(unit, reading, name == "glasses", side)
        return values


def _read(images: Tensor, reading: Reading, darker: bool, side: str) -> Tensor:
    size = (images.shape[-2], images.shape[-1])

    def colour(place: Place) -> Tensor:
        return images[:, :, _pixels(place, side, size)].mean(dim=2)

    at = colour(reading.at)
    if reading.beside is None:
        return at
    beside = colour(reading.beside)
    if darker:
        noticed = at.mean(dim=1) < DARK * beside.mean(dim=1)
    else:
        noticed = (at - beside).abs().mean(dim=1) > NOTICED
    return noticed[:, None].to(images.dtype)


def _pixels(place: Place, side: str, size: tuple[int, int]) -> Bool[Tensor, "h w"]:
    """Find the pixels whose centres lie in a place of one half of the image."""
    y, x = ((torch.arange(count) + 0.5) / count * 2 - 1 for count in size)
    x = -x if side == "left" else x
    return ((y >= place.top) & (y <= place.bottom))[:, None] & (x >= place.left) & (x <= place.right)
