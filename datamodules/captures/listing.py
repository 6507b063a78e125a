"""The frames that a capture lists: those that can be used, and those that cannot, with the reason."""

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from datamodules.captures.lens import FrameError, Lens
from dfm_lightning.geometry.cameras import FARTHEST, ROTATION_TOLERANCE, is_valid_pose

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


class ListedFrame(NamedTuple):
    """A picture's file, camera-to-world pose (OpenCV axes) and lens; `where` it is listed, for messages."""

    where: str
    path: Path
    pose: Float64[Tensor, "4 4"]
    lens: Lens


class LeftOut(NamedTuple):
    """A listed frame that cannot be used: where it is listed, the kind of reason, and what exactly was found."""

    where: str
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {self.detail}"


class Listing(NamedTuple):
    """The frames of a capture in order, and those left out.

    The typical depth of its content is in the capture's unit of length, if the capture states one. `form` names
    the files that the frames come from.
    """

    form: str
    file: Path
    frames: list[ListedFrame]
    left_out: list[LeftOut]
    depth: float | None = None


def summarise(left_out: list[LeftOut], listed: int) -> str:
    """Describe how many of the listed frames are left out, by kind of reason with an example each."""
    kinds = Counter(frame.kind for frame in left_out)
    first = {frame.kind: frame for frame in reversed(left_out)}
    parts = [f"{kinds[kind]}: {kind}, such as {one.where}: {one.detail}" for kind, one in first.items()]
    return f"{len(left_out)} of {listed} frames cannot be used ({'; '.join(parts)})"


def natural_key(name: str) -> list[str | int]:
    """Return a key that sorts numbers in names by value: r_2 before r_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def is_stray(path: Path) -> bool:
    """Tell whether a file is one that macOS adds beside each file on foreign disks (._name)."""
    return path.name.startswith("._")


def typical_depth(near: float, far: float) -> float:
    """Return the harmonic mean of two depths, halfway in disparity. Raises FrameError if they are invalid."""
    if not 0 < near <= far < float("inf"):
        raise FrameError("the bounds are impossible", f"near {near:g}, far {far:g}, expected 0 < near < far")
    return 2 / (1 / near + 1 / far)


def list_pictures(folder: Path) -> list[Path]:
    """List the pictures in a folder, without those that macOS adds beside them, sorted by name."""
    files = (path for path in folder.glob("*") if path.suffix.lower() in PICTURES)
    return sorted(path for path in files if not is_stray(path))


def check_pose(pose: Float64[Tensor, "4 4"]) -> None:
    """Check that a matrix is the pose of a camera. Raises FrameError with the fault."""
    position, rotation, last = pose[:3, 3], pose[:3, :3], pose[3]
    if not position.isfinite().all():
        raise FrameError("the position is not finite", f"{position.tolist()}")
    if position.abs().max() > FARTHEST:
        raise FrameError("the position is impossibly far away", f"{position.tolist()}")
    if not rotation.isfinite().all():
        raise FrameError("the rotation is not finite", f"{rotation.tolist()}")
    if not torch.allclose(last, torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=last.dtype), atol=1e-6):
        raise FrameError("the last row of the matrix is not 0 0 0 1", f"{last.tolist()}")
    if is_valid_pose(pose):
        return
    scale = float(rotation.norm()) / 3**0.5
    identity = torch.eye(3, dtype=rotation.dtype)
    if scale < 1e-9 or (rotation @ rotation.T / scale**2 - identity).abs().max() > ROTATION_TOLERANCE:
        raise FrameError("the rotation is none: its columns are not perpendicular, or of different lengths",
                         f"{rotation.tolist()}")  # fmt: skip
    if torch.linalg.det(rotation) < 0:
        raise FrameError("the rotation is mirrored", f"its determinant is {float(torch.linalg.det(rotation)):.4g}")
    raise FrameError("the rotation is scaled", f"by {scale:.4g}, expected 1")
