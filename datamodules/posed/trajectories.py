"""The cameras of a prediction: the scene's own, a path made from them, a camera move, or cameras from a file."""

from abc import ABC, abstractmethod
from pathlib import Path

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from datamodules.image_files import UnreadableError
from datamodules.posed.camera_moves import CameraMove
from datamodules.posed.path_files import read_camera_path
from datamodules.posed.scenes import Scene
from datamodules.posed.views import Roles
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import invert_pose, scale_translations
from dfm_lightning.geometry.trajectories import circle_cameras, extrapolate_poses, interpolate_poses
from dfm_lightning.ranges import check_finite

KINDS = ("circle", "dataset", "interpolation", "extrapolation", "move")
# The scene's own share of an extrapolated path.
_OWN_PART = 2 / 3


class SourcePath(ABC):
    """The scene's own cameras that a trajectory follows, and their order."""

    @abstractmethod
    def positions(self, scene: Scene, roles: Roles) -> list[int]:
        """List the positions of the cameras, starting with the first context."""

    @abstractmethod
    def spread(self, length: int, count: int) -> list[int]:
        """Take `count` of `length` cameras evenly; some twice if there are fewer."""

    @abstractmethod
    def keys(self, length: int) -> list[int]:
        """Take the cameras that an interpolated path passes through."""


class ToTarget(SourcePath):
    """The path from the first context to the target, both included."""

    def positions(self, scene: Scene, roles: Roles) -> list[int]:
        """List the positions that have a camera, from the first context to the target."""
        start, end = roles.context[0], roles.target
        low, high = min(start, end), max(start, end)
        positions = (scene.has_camera()[low : high + 1].nonzero().flatten() + low).tolist()
        return positions if start <= end else positions[::-1]

    def spread(self, length: int, count: int) -> list[int]:
        """Take cameras evenly from the first to the last."""
        return torch.linspace(0, length - 1, count).round().long().tolist()

    def keys(self, length: int) -> list[int]:
        """Take six of them."""
        return self.spread(length, min(length, 6))


class AroundScene(SourcePath):
    """All cameras of a sequence around its scene, from the first context on and back to it."""

    def positions(self, scene: Scene, roles: Roles) -> list[int]:
        """List the positions that have a camera, starting with the first context."""
        positions = scene.has_camera().nonzero().flatten().tolist()
        start = positions.index(roles.context[0])
        return positions[start:] + positions[:start]

    def spread(self, length: int, count: int) -> list[int]:
        """Take cameras evenly, without returning to the first."""
        return (torch.arange(count) * length // count).tolist()

    def keys(self, length: int) -> list[int]:
        """Take eight of them."""
        return self.spread(length, 8)


class Trajectory:
    """The rule that makes the cameras of a prediction for any scene.

    Args:
        kind: "circle": around the circle fitted to all of the scene's cameras, starting next to the context.
            "dataset": the scene's own cameras on the source path. "interpolation": smoothly through some of them.
            "extrapolation": for two thirds the scene's own cameras from the context to the target, then on with
            their last motion. "move": as `move` says, from the context. Otherwise the name of a file, a .txt of
            RealEstate10k or a transforms.json, whose first camera is put in the context camera's place.
        frames: number of cameras; at most this many of a file, and `move.frames` of a move.
        source: the scene's own cameras to follow.
        move: how the camera moves away from the context.
        distance: distance of the point that a move circles, in scene units.
        file_scale: factor on a file's translations.

    Raises:
        UserError: `kind` is neither a known kind nor a file with cameras.
    """

    def __init__(
        self,
        kind: str,
        frames: int,
        source: SourcePath,
        move: CameraMove,
        distance: float,
        file_scale: float = 1.0,
    ) -> None:
        check_finite(scale=file_scale)
        self.kind = kind
        self.frames = frames
        self.source = source
        # Poses that are moved to the context camera, and the pose that takes its place; unmoved if that is None.
        self._poses: Float64[Tensor, "n 4 4"] | None = None
        self._anchor: Float64[Tensor, "4 4"] | None = None
        if kind == "move":
            self._poses = move.poses(distance)
        elif kind not in KINDS:
            if not Path(kind).is_file():
                raise UserError(
                    f"the trajectory should be {', '.join(KINDS)} or a file, but there is no file {kind}"
                )
            self._poses = self._thinned(scale_translations(read_camera_path(Path(kind)), file_scale))
            self._anchor = self._poses[0]
        elif kind == "extrapolation" and frames < 3:
            raise UserError(f"an extrapolated trajectory needs prediction.frames of at least 3, not {frames}")

    def _thinned(self, poses: Float64[Tensor, "n 4 4"]) -> Float64[Tensor, "m 4 4"]:
        return poses[ToTarget().spread(len(poses), self.frames)] if len(poses) > self.frames else poses

    def __call__(self, scene: Scene, roles: Roles) -> Float[Tensor, "n 4 4"]:
        """Make the absolute camera-to-world poses for a scene.

        Raises:
            UnreadableError: the scene has too few cameras.
        """
        poses, first = scene.camera_to_world, roles.context[0]
        if self._poses is not None:
            start = poses[first].double()
            placed = start if self._anchor is None else start @ invert_pose(self._anchor)
            return (placed @ self._poses).to(poses)
        if self.kind == "circle":
            usable = scene.has_camera().nonzero().flatten().tolist()
            return circle_cameras(poses[usable], self.frames, usable.index(first))
        source = ToTarget() if self.kind == "extrapolation" else self.source
        own = poses[source.positions(scene, roles)]
        if len(own) < 2:
            raise UnreadableError(f"scene {scene.key}: a single camera has no trajectory")
        if self.kind == "dataset":
            return own[source.spread(len(own), self.frames)]
        if self.kind == "interpolation":
            return interpolate_poses(own[source.keys(len(own))], self.frames)
        kept = own[source.spread(len(own), max(2, round(self.frames * _OWN_PART)))]
        further = extrapolate_poses(kept[-max(2, len(kept) // 4) :], self.frames - len(kept))
        return torch.cat([kept, further])
