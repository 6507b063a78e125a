"""transforms.json, as NeRF, instant-ngp and nerfstudio write it."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from PIL import Image
from torch import Tensor

from datamodules.captures.lens import Lens
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import flip_opengl_opencv

TRANSFORMS_FILE = "transforms.json"
_DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_ENDINGS = ("", ".png", ".jpg")


def find_transforms(root: Path) -> Path | None:
    """The transforms.json of a capture: in its folder or, if just one of the folders in it has one, there."""
    if (root / TRANSFORMS_FILE).is_file():
        return root / TRANSFORMS_FILE
    deeper = list(root.glob(f"*/{TRANSFORMS_FILE}"))
    return deeper[0] if len(deeper) == 1 else None


def read_transforms(path: Path) -> tuple[list[Path], Float64[Tensor, "n 4 4"], list[dict[str, Any]]]:
    """Files, camera-to-world poses (OpenCV axes) and properties of all listed frames, in the order of file names.

    The properties of a frame are its own and, where it has none, those of the whole file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        shared = {name: value for name, value in content.items() if name != "frames"}
        frames = sorted(content["frames"], key=lambda frame: frame.get("file_path", ""))
        poses = torch.tensor([frame["transform_matrix"] for frame in frames], dtype=torch.float64)
        files = [_existing(path.parent, frame.get("file_path", "")) for frame in frames]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} should have a list `frames` with a file_path and a 4×4 transform_matrix each: "
            f"{type(error).__name__}: {error}"
        ) from None
    if poses.shape[1:] != (4, 4):
        raise UserError(f"{path}: expected 4×4 matrices of at least one frame, got {list(poses.shape)}")
    return files, flip_opengl_opencv(poses), [{**shared, **frame} for frame in frames]


def _existing(folder: Path, name: str) -> Path:
    """The file of a name, beside transforms.json or one folder up; NeRF's own scenes leave out the ending."""
    candidates = [place / f"{name}{ending}" for place in (folder, folder.parent) for ending in _ENDINGS]
    return next((path for path in candidates if path.is_file()), candidates[0])


def read_lens(properties: dict[str, Any], picture: Path, path: Path) -> Lens:
    """The lens that the properties of a frame describe; `picture` is asked for its size if they lack it."""
    model = str(properties.get("camera_model", "OPENCV"))
    if "FISHEYE" in model.upper() or properties.get("is_fisheye"):
        raise UserError(f"{path}: cameras of the model {model} cannot be read, only pinholes and OpenCV's")
    try:
        stated = {"w", "h"} <= set(properties)
        width, height = map(float, (properties["w"], properties["h"]) if stated else _size(picture))
        fx = _focal(properties, "x", width)
        fy = _focal(properties, "y", height) if {"fl_y", "camera_angle_y"} & set(properties) else fx
        centre = float(properties.get("cx", width / 2)), float(properties.get("cy", height / 2))
        bent = {name: float(properties[name]) for name in _DISTORTION if name in properties}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: expected numbers w, h, fl_x (or camera_angle_x) and perhaps fl_y, cx, cy, k1, k2, p1, p2: "
            f"{type(error).__name__}: {error}"
        ) from None
    return Lens(width, height, fx, fy, *centre, **bent)


def _size(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size


def _focal(properties: dict[str, Any], axis: str, extent: float) -> float:
    if f"fl_{axis}" in properties:
        return float(properties[f"fl_{axis}"])
    return extent / 2 / math.tan(float(properties[f"camera_angle_{axis}"]) / 2)
