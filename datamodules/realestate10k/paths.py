"""The path of a prediction's camera: the scene's own, one made from it, or one from a file."""

from pathlib import Path

import torch
from jaxtyping import Float64
from torch import Tensor

from datamodules.realestate10k.path_files import read_camera_path
from datamodules.scenes import Scene
from datamodules.views import Roles
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import invert_pose, scale_translations
from dfm_lightning.geometry.trajectories import extrapolate_poses, interpolate_poses

KINDS = ("dataset", "interpolation", "extrapolation")
# Cameras of the scene that an interpolated path passes through.
_KEY_POSES = 6
# The part of an extrapolated path that is the scene's own.
_OWN_PART = 2 / 3


class PathChoice:
    """Makes paths that begin at the first context camera.

    Args:
        kind: "dataset": the scene's own cameras, from the context to the target. "interpolation": smoothly through
            six of them. "extrapolation": two thirds the scene's own cameras, and then on with their last motion.
            Otherwise the name of a file, a .txt of RealEstate10k or a transforms.json, whose first camera is put
            in the context camera's place.
        frames: number of cameras.
        file_scale: a file's translations are multiplied by it.
    """

    def __init__(self, kind: str, frames: int, file_scale: float) -> None:
        self.kind = kind
        self.frames = frames
        self.file_scale = file_scale
        self._poses: Float64[Tensor, "n 4 4"] | None = None
        if kind not in KINDS:
            if not Path(kind).is_file():
                raise UserError(
                    f"the trajectory should be {', '.join(KINDS)} or a file, but there is no file {kind}"
                )
            self._poses = scale_translations(read_camera_path(Path(kind)), file_scale)

    def __call__(self, scene: Scene, roles: Roles) -> Float64[Tensor, "n 4 4"]:
        """Absolute camera-to-world poses for a scene."""
        first = scene.camera_to_world[roles.context[0]]
        if self._poses is not None:
            moved = first @ invert_pose(self._poses[0]) @ self._poses
            return moved[_evenly(len(moved), self.frames)] if len(moved) > self.frames else moved
        own = scene.camera_to_world[positions_between(scene, roles)]
        if self.kind == "dataset":
            return own[_evenly(len(own), self.frames)]
        if self.kind == "interpolation":
            return interpolate_poses(own[_evenly(len(own), min(len(own), _KEY_POSES))], self.frames)
        kept = own[_evenly(len(own), max(2, round(self.frames * _OWN_PART)))]
        further = extrapolate_poses(kept[-max(2, len(kept) // 4) :], self.frames - len(kept))
        return torch.cat([kept, further])


def positions_between(scene: Scene, roles: Roles) -> list[int]:
    """The positions with a camera from the first context to the target, in this order; at least two."""
    start, end = roles.context[0], roles.target
    low, high = min(start, end), max(start, end)
    cameras = scene.has_camera()[low : high + 1].nonzero().flatten() + low
    positions = cameras.tolist()
    return positions if start <= end else positions[::-1]


def _evenly(length: int, count: int) -> list[int]:
    """`count` indices from the first to the last of `length`, some twice if they are fewer."""
    return torch.linspace(0, length - 1, count).round().long().tolist()
