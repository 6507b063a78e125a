"""Scenes that are read by name: cameras, and frames that are decoded when they are asked for."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Bool, Float64
from PIL import Image
from torch import Tensor

from dfm_lightning.geometry.cameras import is_valid_pose

MissingScenes = Literal["error", "skip"]
"""What to do about scenes that a data set lists and that are not there."""


class Scene(ABC):
    """Cameras and frames of a scene, by their position in the order of the data set.

    Args:
        key: the scene's name.
        camera_to_world: poses, OpenCV axes, in scene units. What is not known is NaN.
        intrinsics: normalised, of the whole images.
    """

    left_out: tuple[str, ...] = ()
    """What is listed for the scene and cannot be used, with the reason; it has no position."""

    def __init__(
        self, key: str, camera_to_world: Float64[Tensor, "n 4 4"], intrinsics: Float64[Tensor, "n 3 3"]
    ) -> None:
        self.key = key
        self.camera_to_world = camera_to_world
        self.intrinsics = intrinsics

    @abstractmethod
    def has_frame(self, position: int) -> bool:
        """Whether there is a picture for a position. It is not decoded, and may turn out to be damaged."""

    @abstractmethod
    def frame(self, position: int) -> Image.Image:
        """The picture at a position, in full size, RGB, as the pinhole camera of that position sees it.

        Raises:
            UnreadableError: if it is missing or damaged.
        """

    def has_camera(self) -> Bool[Tensor, " n"]:
        """Which positions have a camera: finite, with a rotation, and with focal lengths above zero."""
        focal = torch.nan_to_num(self.intrinsics[:, [0, 1], [0, 1]], nan=0.0).amin(dim=1)
        finite = self.intrinsics.isfinite().flatten(1).all(dim=1)
        return is_valid_pose(self.camera_to_world) & finite & (focal > 0)

    def usable_positions(self) -> list[int]:
        """The positions that have both a camera and a picture, in order."""
        cameras = self.has_camera().tolist()
        return [position for position, valid in enumerate(cameras) if valid and self.has_frame(position)]


class SceneReader(ABC):
    """The scenes of a data set's split."""

    description: str
    """What was found at the root, to be said aloud."""

    @abstractmethod
    def keys(self) -> list[str]:
        """The names of all scenes, sorted."""

    @abstractmethod
    def scene(self, key: str) -> Scene:
        """A scene.

        Raises:
            UnreadableError: if its cameras, or the file that it is in, cannot be read.
        """

    def containers(self) -> list[int] | None:
        """For each key, the number of the file that holds the scene; None where each has a file of its own."""
        return None
