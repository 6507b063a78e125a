"""transforms.json, as NeRF, instant-ngp and nerfstudio write it."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from datamodules.captures.lens import PERSPECTIVE, FrameError, Lens, opencv_lens
from datamodules.captures.listing import (
    LeftOut,
    ListedFrame,
    Listing,
    check_pose,
    is_stray,
    natural_key,
    typical_depth,
)
from datamodules.image_files import UnreadableError, open_picture
from datamodules.json_files import read_json
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import flip_opengl_opencv

TRANSFORMS_FILE = "transforms.json"
# NeRF's synthetic scenes have a file for each split. The test cameras go once around, the training cameras are
# scattered.
SPLIT_FILES = ("transforms_test.json", "transforms_train.json", "transforms_val.json")
_FISHEYE = ("OPENCV_FISHEYE",)
_DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_FISHEYE_DISTORTION = ("k1", "k2", "k3", "k4")
_ENDINGS = ("", ".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG")


class PosedFrame(NamedTuple):
    """A listed frame, with its camera-to-world pose (OpenCV axes) and properties.

    Properties that the frame lacks come from the file as a whole.
    """

    where: str
    name: str
    pose: Float64[Tensor, "4 4"]
    properties: dict[str, Any]


def find_transforms(root: Path) -> Path | None:
    """Find the transforms.json of a capture.

    It is in the capture's folder, or in the only subfolder that has one; or it is the first of NeRF's split files
    whose pictures exist.
    """
    if (root / TRANSFORMS_FILE).is_file():
        return root / TRANSFORMS_FILE
    splits = [root / name for name in SPLIT_FILES if (root / name).is_file()]
    if splits:
        return next((path for path in splits if _has_pictures(path)), splits[0])
    deeper = list(root.glob(f"*/{TRANSFORMS_FILE}"))
    return deeper[0] if len(deeper) == 1 else None


def _has_pictures(path: Path) -> bool:
    frames, _ = read_poses(path)
    return any(picture_file(path.parent, frame.name).is_file() for frame in frames)


def read_transforms(path: Path) -> Listing:
    """Read the frames of a file, in the natural order of their names.

    The typical depth is known if the file states near and far.

    Raises:
        UserError: the file is not a transforms.json.
    """
    content = _read_content(path)
    posed, left_out = _read_frames(content)
    frames = []
    for frame in posed:
        picture = picture_file(path.parent, frame.name)
        try:
            if not frame.name:
                raise FrameError("file_path is not given", "it names the picture")
            frames.append(ListedFrame(frame.where, picture, frame.pose, read_lens(frame.properties, picture)))
        except FrameError as error:
            left_out.append(LeftOut(frame.where, error.kind, error.detail))
    return Listing(path.name, path, frames, left_out, _depth(content, path))


def read_poses(path: Path) -> tuple[list[PosedFrame], list[LeftOut]]:
    """Read the cameras of a file alone, in the natural order of names; no picture is needed.

    Raises:
        UserError: the file is not a transforms.json.
    """
    return _read_frames(_read_content(path))


def _read_content(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} should be a JSON file: {type(error).__name__}: {error}") from None
    listed = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{path} should have a list `frames` with a file_path and a 4×4 transform_matrix each")
    return content


def _depth(content: dict[str, Any], path: Path) -> float | None:
    if not {"near", "far"} <= set(content):
        return None
    try:
        return typical_depth(_number(content, "near"), _number(content, "far"))
    except FrameError as error:
        raise UserError(f"{path}: {error}") from None


def _read_frames(content: dict[str, Any]) -> tuple[list[PosedFrame], list[LeftOut]]:
    shared = {name: value for name, value in content.items() if name != "frames"}
    frames: list[PosedFrame] = []
    left_out: list[LeftOut] = []
    for number, frame in enumerate(content["frames"]):
        name = frame.get("file_path", "") if isinstance(frame, dict) else ""
        where = f"frames[{number}]" + (f" ({name})" if name else "")
        try:
            frames.append(PosedFrame(where, _name(name), _pose(frame), {**shared, **frame}))
        except FrameError as error:
            left_out.append(LeftOut(where, error.kind, error.detail))
    return sorted(frames, key=lambda frame: natural_key(frame.name)), left_out


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise FrameError("file_path is not a name", repr(name))
    if is_stray(Path(name)):
        raise FrameError("file_path is a file that macOS keeps beside a picture", name)
    return name


def _pose(frame: Any) -> Float64[Tensor, "4 4"]:
    matrix = frame.get("transform_matrix") if isinstance(frame, dict) else None
    try:
        pose = torch.tensor(matrix, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise FrameError("transform_matrix is not a 4×4 matrix of numbers", f"{matrix!r}"[:80]) from None
    if pose.shape not in ((4, 4), (3, 4)):
        raise FrameError("transform_matrix is not 4×4", f"{list(pose.shape)}")
    if len(pose) == 3:
        pose = torch.cat([pose, torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)])
    check_pose(pose)
    return flip_opengl_opencv(pose)


def picture_file(folder: Path, name: str) -> Path:
    """Return the file of a name, beside transforms.json or one folder up; NeRF's own scenes omit the ending."""
    names = (name, name.replace("\\", "/"))
    places = [place / each for each in names for place in (folder, folder.parent)]
    candidates = [Path(f"{place}{ending}") for place in places for ending in _ENDINGS]
    return next((path for path in candidates if path.is_file()), candidates[0])


def read_lens(properties: dict[str, Any], picture: Path) -> Lens:
    """Build the lens that the properties of a frame describe; without a size in them, use that of `picture`.

    Raises:
        FrameError: they do not describe one of the known lenses.
    """
    fisheye = _is_fisheye(properties)
    width, height = (
        (_number(properties, "w"), _number(properties, "h")) if {"w", "h"} <= set(properties) else _size(picture)
    )
    fx = _focal(properties, "x", width)
    fy = _focal(properties, "y", height) if {"fl_y", "camera_angle_y"} & set(properties) else fx
    centre = tuple(
        _number(properties, name) if name in properties else middle / 2
        for name, middle in (("cx", width), ("cy", height))
    )
    names = _FISHEYE_DISTORTION if fisheye else _DISTORTION
    bent = {name: _number(properties, name) for name in names if name in properties}
    return opencv_lens(width, height, (fx, fy), (centre[0], centre[1]), bent, fisheye)


def _is_fisheye(properties: dict[str, Any]) -> bool:
    model = properties.get("camera_model") or "OPENCV"
    if not isinstance(model, str) or model.upper() not in PERSPECTIVE + _FISHEYE:
        known = ", ".join(PERSPECTIVE + _FISHEYE)
        raise FrameError(f"the camera model {model} is not known", f"expected one of {known}")
    return model.upper() in _FISHEYE or properties.get("is_fisheye") is True


def _size(picture: Path) -> tuple[float, float]:
    try:
        with open_picture(picture, str(picture)) as image:
            return float(image.width), float(image.height)
    except UnreadableError as error:
        raise FrameError("w and h are not given, and the picture does not say", str(error)) from None


def _number(properties: dict[str, Any], name: str) -> float:
    value = properties[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300:
        raise FrameError(f"{name} is not a finite number", repr(value))
    return float(value)


def _focal(properties: dict[str, Any], axis: str, extent: float) -> float:
    length, angle = f"fl_{axis}", f"camera_angle_{axis}"
    if length in properties:
        return _number(properties, length)
    if angle not in properties:
        raise FrameError(f"neither {length} nor {angle} is given", "no focal length")
    value = _number(properties, angle)
    if not 0 < value < math.pi:
        raise FrameError(f"{angle} is not an angle between 0 and π", repr(value))
    return extent / 2 / math.tan(value / 2)
