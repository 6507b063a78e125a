"""The pictures of a scene in one PNG file with an index, from which a report takes them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file

# More would make the files too large to look through.
MOST_VIEWS, MOST_SAMPLES = 10, 8
_CONTENTS = "layers"


class Layer(NamedTuple):
    """Pictures of one kind: one for each view of the scene, or one for all views; `sample` counts from 1."""

    name: str
    images: UInt8[np.ndarray, "n h w 3"]
    sample: int | None = None


class Place(NamedTuple):
    """The position of a layer in a sheet: its pictures in a row from the left, of one size in pixels."""

    name: str
    sample: int | None
    pictures: int
    top: int
    height: int
    width: int


class Layers(NamedTuple):
    """All layers of a scene, and the names of its views."""

    views: list[str]
    layers: list[Layer]


def laid_out(layers: Sequence[Layer]) -> tuple[RGB, list[Place]]:
    """Arrange layers in one picture, a row each, without any space between them."""
    places, top = [], 0
    for layer in layers:
        count, height, width, _ = layer.images.shape
        places.append(Place(layer.name, layer.sample, count, top, height, width))
        top += height
    sheet = np.zeros((top, max(place.pictures * place.width for place in places), 3), np.uint8)
    for layer, place in zip(layers, places, strict=True):
        row = np.concatenate(list(layer.images), axis=1)
        sheet[place.top : place.top + place.height, : row.shape[1]] = row
    return sheet, places


def write_layers(path: Path, scene: Layers) -> None:
    """Write a whole PNG file of a scene's layers, with a text that indexes them."""
    sheet, places = laid_out(scene.layers)
    about = PngImagePlugin.PngInfo()
    contents = {"views": scene.views, "layers": [place._asdict() for place in places]}
    about.add_text(_CONTENTS, json.dumps(contents))
    with whole_file(path) as aside:
        Image.fromarray(sheet).save(aside, format="PNG", pnginfo=about)


def read_layers(path: Path) -> Layers:
    """Read the layers in a file of `write_layers`.

    Raises:
        UserError: the file is of another kind, or damaged.
    """
    try:
        with Image.open(path) as image:
            sheet = np.asarray(image.convert("RGB"))
            contents = json.loads(image.info[_CONTENTS])
        layers = [_cut(sheet, Place(**place)) for place in contents["layers"]]
        return Layers([str(view) for view in contents["views"]], layers)
    except (ValueError, TypeError, KeyError, SyntaxError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): remove it, or test again") from error


def _cut(sheet: RGB, place: Place) -> Layer:
    rows = sheet[place.top : place.top + place.height, : place.pictures * place.width]
    images = rows.reshape(place.height, place.pictures, place.width, 3).swapaxes(0, 1)
    return Layer(place.name, images, place.sample)
