"""Sequences of frames with their cameras in the project's convention."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from datamodules.co3d.annotations import CategoryAnnotations, DepthAnnotation, FrameAnnotation
from dfm_lightning.geometry.cameras import (
    FARTHEST,
    NdcFormat,
    is_valid_intrinsics,
    is_valid_pose,
    pytorch3d_to_normalised_intrinsics,
    pytorch3d_to_opencv,
)

_NAN = float("nan")
_FORMATS: dict[str, NdcFormat] = {
    "ndc_isotropic": "ndc_isotropic",
    "ndc_norm_image_bounds": "ndc_norm_image_bounds",
}


class Frame(NamedTuple):
    """One frame's files. `problem` says why its camera cannot be used; None for a good one."""

    number: int
    path: Path
    size: tuple[int, int]
    mask_path: Path | None
    depth: DepthAnnotation | None
    problem: str | None


class Sequence(NamedTuple):
    """Frames of one scene sorted by number, with cameras in the data set's units.

    Intrinsics are normalised and belong to the whole image, before any crop.
    """

    name: str
    category: str
    quality: float | None
    frames: list[Frame]
    camera_to_world: Float[Tensor, "v 4 4"]
    intrinsics: Float[Tensor, "v 3 3"]

    def usable(self) -> list[int]:
        """List the positions of the frames whose cameras can be used."""
        return [position for position, frame in enumerate(self.frames) if frame.problem is None]

    def take(self, positions: list[int]) -> "Sequence":
        """Return the same sequence with only some of its frames."""
        return self._replace(
            frames=[self.frames[position] for position in positions],
            camera_to_world=self.camera_to_world[positions],
            intrinsics=self.intrinsics[positions],
        )


def build_sequences(
    root: Path, category: str, annotations: CategoryAnnotations, names: Iterable[str] | None = None
) -> dict[str, Sequence]:
    """Build the sequences of a category by name, sorted by name; all of them, or those given."""
    wanted = None if names is None else set(names)
    frames: defaultdict[str, list[FrameAnnotation]] = defaultdict(list)
    for frame in annotations.frames:
        if wanted is None or frame.sequence in wanted:
            frames[frame.sequence].append(frame)
    return {
        name: _build(root, category, name, annotations.quality.get(name), frames[name]) for name in sorted(frames)
    }


def _build(
    root: Path, category: str, name: str, quality: float | None, annotations: list[FrameAnnotation]
) -> Sequence:
    annotations = sorted(annotations, key=lambda frame: frame.number)
    poses, intrinsics = (numbers.float() for numbers in _cameras(annotations))
    valid = is_valid_pose(poses)
    frames = [
        Frame(
            number=frame.number,
            path=root / frame.path,
            size=frame.size,
            mask_path=root / frame.mask_path if frame.mask_path else None,
            depth=frame.depth,
            problem=_problem(frame, bool(valid[index]), poses[index], intrinsics[index]),
        )
        for index, frame in enumerate(annotations)
    ]
    return Sequence(name, category, quality, frames, poses, intrinsics)


def _cameras(
    annotations: list[FrameAnnotation],
) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
    """Return poses and normalised intrinsics; NaN if the annotation has none."""
    viewpoints = [frame.viewpoint or {} for frame in annotations]
    poses = pytorch3d_to_opencv(
        _stack([viewpoint.get("R") for viewpoint in viewpoints], (3, 3)),
        _stack([viewpoint.get("T") for viewpoint in viewpoints], (3,)),
    )
    focal = _stack([viewpoint.get("focal_length") for viewpoint in viewpoints], (2,))
    principal = _stack([viewpoint.get("principal_point", [0.0, 0.0]) for viewpoint in viewpoints], (2,))
    intrinsics = torch.full((len(annotations), 3, 3), _NAN, dtype=torch.float64)
    groups: defaultdict[tuple[tuple[int, int], str], list[int]] = defaultdict(list)
    for index, (frame, viewpoint) in enumerate(zip(annotations, viewpoints, strict=True)):
        groups[frame.size, str(viewpoint.get("intrinsics_format") or "ndc_norm_image_bounds")].append(index)
    for ((height, width), ndc_format), group in groups.items():
        if ndc_format in _FORMATS and min(height, width) > 0:
            intrinsics[group] = pytorch3d_to_normalised_intrinsics(
                focal[group], principal[group], width, height, _FORMATS[ndc_format]
            )
    return poses, intrinsics


def _stack(values: list, shape: tuple[int, ...]) -> Float[Tensor, "v ..."]:
    """Stack numbers from a file into one tensor; NaN for those of another shape."""
    stacked = np.full((len(values), *shape), _NAN)
    for index, value in enumerate(values):
        try:
            numbers = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            continue
        if numbers.shape == shape:
            stacked[index] = numbers
    return torch.from_numpy(stacked)


def _problem(
    frame: FrameAnnotation, valid: bool, pose: Float[Tensor, "4 4"], intrinsics: Float[Tensor, "3 3"]
) -> str | None:
    if frame.viewpoint is None:
        return "it has no camera"
    if not pose.isfinite().all():
        return "its pose is missing or not finite"
    if pose[:3, 3].abs().max() > FARTHEST:
        return "its position is impossibly far away"
    if not valid:
        return "its rotation is singular or no rotation"
    if not intrinsics.isfinite().all():
        return "its intrinsics are missing, not finite or of an unknown format"
    if (intrinsics[:2, :2].diagonal() <= 0).any():
        return "its focal length is not positive"
    if not is_valid_intrinsics(intrinsics):
        return "its focal length or principal point is impossible"
    return None
