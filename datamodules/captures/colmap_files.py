"""The content of COLMAP's text and binary files, and the camera models that they may name.

pycolmap knows the models but does not read the files here: it accepts a truncated binary file as whole (version
4.2), and returns nothing for a text file with one malformed number, without saying which.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from datamodules.captures.lens import load_pycolmap


class CameraModel(NamedTuple):
    """A camera model: its COLMAP name, and the names of its parameters."""

    name: str
    parameters: tuple[str, ...]


class ColmapCamera(NamedTuple):
    """A camera: its model, the size of its images in pixels, and its parameters in the model's order."""

    model: CameraModel
    width: float
    height: float
    parameters: tuple[float, ...]


class ColmapImage(NamedTuple):
    """A registered picture: its name, the number of its camera, and its world-to-camera rotation (w, x, y, z) and
    translation.
    """

    name: str
    camera: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]


class ColmapModel(NamedTuple):
    """Cameras and images by number, positions of points, and observations.

    Observations are pairs (number of an image, row of a point): the image sees the point.
    """

    cameras: dict[int, ColmapCamera]
    images: dict[int, ColmapImage]
    points: Float64[np.ndarray, "p 3"]
    tracks: Int64[np.ndarray, "t 2"]


@lru_cache(maxsize=1)
def camera_models() -> dict[int, CameraModel]:
    """Return the camera models that pycolmap knows, by COLMAP's number, except those of panoramas."""
    pycolmap = load_pycolmap()
    models = {}
    for name, identifier in pycolmap.CameraModelId.__members__.items():
        if name != "INVALID":
            camera = pycolmap.Camera.create_from_model_name(1, name, 1.0, 1, 1)
            parameters = tuple(camera.params_info.replace(" ", "").split(","))
            if "cx" in parameters:
                models[int(identifier)] = CameraModel(name, parameters)
    return models
