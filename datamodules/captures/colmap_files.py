"""What COLMAP's text and binary files hold, and the camera models that they may name.

pycolmap knows the models. It does not read the files here: to it a binary file that was cut short is a whole one
(version 4.2), and of a text with one number that is none it reads nothing and does not say which.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from datamodules.captures.lens import load_pycolmap


class CameraModel(NamedTuple):
    """A camera model: COLMAP's name of it, and the names of its parameters."""

    name: str
    parameters: tuple[str, ...]


class ColmapCamera(NamedTuple):
    """A camera: its model, the size of its images in pixels, and its parameters in the model's order."""

    model: CameraModel
    width: float
    height: float
    parameters: tuple[float, ...]


class ColmapImage(NamedTuple):
    """A registered picture: its name, the number of its camera, and world-to-camera rotation (w, x, y, z) and
    translation."""

    name: str
    camera: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]


class ColmapModel(NamedTuple):
    """Cameras and images by number; positions of points; and pairs (number of an image, row of a point) that tell
    which image sees which point."""

    cameras: dict[int, ColmapCamera]
    images: dict[int, ColmapImage]
    points: Float64[np.ndarray, "p 3"]
    tracks: Int64[np.ndarray, "t 2"]


@lru_cache(maxsize=1)
def camera_models() -> dict[int, CameraModel]:
    """The camera models that pycolmap knows, by COLMAP's number; without those of panoramas."""
    pycolmap = load_pycolmap()
    models = {}
    for name, identifier in pycolmap.CameraModelId.__members__.items():
        if name != "INVALID":
            camera = pycolmap.Camera.create_from_model_name(1, name, 1.0, 1, 1)
            parameters = tuple(camera.params_info.replace(" ", "").split(","))
            if "cx" in parameters:
                models[int(identifier)] = CameraModel(name, parameters)
    return models
