"""The true motion of synthetic clips, from the files beside them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from datamodules.hidden_looks import TRUTH_FILE, checked_probabilities
from datamodules.json_files import read_json
from dfm_lightning.errors import UserError

BACKGROUND = 0


class DirectionLaw(NamedTuple):
    """The directions that shapes may move in (degrees, 0 to the right, 90 down), and their probabilities."""

    degrees: list[float]
    probabilities: list[float]

    def vectors(self) -> Float64[np.ndarray, "d 2"]:
        """Return the directions as unit vectors (x, y)."""
        angles = np.deg2rad(self.degrees)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


class ClipMotion(NamedTuple):
    """The motion of the shapes of a clip.

    `shape` is the number of the shape at each pixel of each frame, from 1, or 0 for the background, which stands
    still. `pose` maps coordinates on a shape (x, y, 1) to its place in a frame, in pixels whose centres are at
    whole numbers.
    """

    shape: UInt8[np.ndarray, "f h w"]
    pose: Float64[np.ndarray, "f s 2 3"]

    def flow(self, first: int, second: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the flow at points of the first frame (x to the right, y down, in its pixels) and the shape
        there.

        Returns:
            Displacements to the second frame, [*x 2], and numbers of shapes, [*x].
        """
        height, width = self.shape.shape[1:]
        row = np.clip(np.rint(y).astype(int), 0, height - 1)
        column = np.clip(np.rint(x).astype(int), 0, width - 1)
        shape = self.shape[first, row, column]
        points = np.stack([x, y], axis=-1)
        flow = np.zeros(points.shape)
        for number in range(self.pose.shape[1]):
            start, end = self.pose[first, number], self.pose[second, number]
            local = (points - start[:, 2]) @ np.linalg.inv(start[:, :2]).T
            moved = local @ end[:, :2].T + end[:, 2]
            flow[shape == number + 1] = (moved - points)[shape == number + 1]
        return flow, shape


class ClipTruths:
    """The truth of all clips of a root.

    Args:
        root: the folder of clips.
        law: how their directions are distributed.
    """

    def __init__(self, root: Path, law: DirectionLaw) -> None:
        self.root = root
        self.law = law

    def read(self, name: str) -> ClipMotion:
        """Read the motion of a clip. Raises UserError."""
        path = truth_path(self.root, name)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                motion = ClipMotion(arrays["shape"].astype(np.uint8), arrays["pose"].astype(np.float64))
            _check_motion(motion)
            return motion
        except Exception as error:  # damaged archives raise many kinds of errors, from zip, zlib and NumPy
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{path}: no readable true motion ({reason})") from None

    def tensors(
        self, name: str, first: int, second: int, frame_size: tuple[int, int], window: tuple[slice, slice]
    ) -> dict[str, Tensor]:
        """Return the truth that evaluation compares samples with, for one pair of frames.

        Args:
            name: the clip.
            first: position of the context frame.
            second: position of the target frame.
            frame_size: height and width that frames are resized to.
            window: rows and columns of the resized frames that are used.

        Returns:
            `flow` [2 h w] in pixels of the resized frame; `shape` [1 h w], the number of the shape; `directions`
            [d 2], unit vectors, and their `probabilities` [d].
        """
        motion = self.read(name)
        if max(first, second) >= len(motion.shape):
            raise UserError(
                f"{truth_path(self.root, name)}: holds {len(motion.shape)} frames, fewer than the clip"
            )
        scale = np.array([frame_size[1] / motion.shape.shape[2], frame_size[0] / motion.shape.shape[1]])
        rows, columns = (np.arange(size)[part] for size, part in zip(frame_size, window, strict=True))
        y, x = np.meshgrid((rows + 0.5) / scale[1] - 0.5, (columns + 0.5) / scale[0] - 0.5, indexing="ij")
        flow, shape = motion.flow(first, second, x, y)
        # Played backward, a clip moves the other way.
        directions = self.law.vectors() * scale * (1 if second > first else -1)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        return {
            "flow": _tensor((flow * scale).transpose(2, 0, 1)),
            "shape": torch.from_numpy(shape[None].astype(np.int64)),
            "directions": _tensor(directions),
            "probabilities": _tensor(np.array(self.law.probabilities)),
        }


def open_truths(root: Path) -> ClipTruths | None:
    """Open the truth of the clips at a root; None for real clips. Raises UserError if it is damaged."""
    path = root / TRUTH_FILE
    if not path.exists():
        return None
    try:
        law = read_json(path)["distribution"]
        degrees, probabilities = (
            [float(each) for each in law["directions"]],
            checked_probabilities(law["probabilities"]),
        )
        if len(degrees) != len(probabilities) or not np.isfinite(degrees).all():
            raise ValueError(f"expected a direction for each probability, got {degrees} and {probabilities}")
        return ClipTruths(root, DirectionLaw(degrees, probabilities))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: not a truth file of synthetic clips ({error!r})") from None


def _check_motion(motion: ClipMotion) -> None:
    """Raise ValueError if arrays describe no motion."""
    shape, pose = motion
    if shape.ndim != 3 or pose.ndim != 4 or pose.shape[2:] != (2, 3) or len(shape) != len(pose):
        raise ValueError(f"expected shape [f h w] and pose [f s 2 3], got {shape.shape} and {pose.shape}")
    if not np.isfinite(pose).all() or not (np.abs(np.linalg.det(pose[..., :2])) > 0).all():
        raise ValueError("a pose is not finite, or has no inverse")
    if shape.max(initial=0) > pose.shape[1]:
        raise ValueError(f"there are poses of {pose.shape[1]} shapes, but a pixel of shape {shape.max()}")


def truth_path(root: Path, name: str) -> Path:
    """Return the file that holds the motion of a clip."""
    return root / "truth" / f"{name}.npz"


def _tensor(array: np.ndarray) -> Float[Tensor, "*n"]:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
