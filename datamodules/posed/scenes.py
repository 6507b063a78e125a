"""The contract of a data set of posed images: a reader opens scenes by name; a scene holds cameras and frames."""

from abc import ABC, abstractmethod
from typing import Literal

from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from datamodules.image_files import UnreadableError
from dfm_lightning.geometry.cameras import is_valid_intrinsics, is_valid_pose, scale_translations
from dfm_lightning.geometry.images import square_image

Split = Literal["train", "val", "test"]
MissingScenes = Literal["error", "skip"]
"""What to do about scenes that a data set lists and that are not there."""


class Scene(ABC):
    """Cameras and frames of a scene, by their position in the order of the data set.

    Args:
        key: the scene's name.
        camera_to_world: poses, OpenCV axes, in scene units; NaN if unknown.
        intrinsics: normalised, of the whole images.
    """

    left_out: tuple[str, ...] = ()
    """What is listed for the scene and cannot be used, with the reason; it has no position."""

    frame_names: tuple[str, ...] = ()
    """The names of the frames' files without their endings, in data sets where other files go by them."""

    prescribed: tuple[int, ...] = ()
    """Positions of the target and the first context that a benchmark prescribes, as far as it does."""

    def __init__(
        self, key: str, camera_to_world: Float[Tensor, "n 4 4"], intrinsics: Float[Tensor, "n 3 3"]
    ) -> None:
        self.key = key
        self.camera_to_world = camera_to_world
        self.intrinsics = intrinsics

    @abstractmethod
    def frame(self, position: int) -> Image.Image:
        """Read the picture at a position, in full size and RGB, as the pinhole camera of that position sees it.

        Raises:
            UnreadableError: the picture is missing or damaged.
        """

    def has_frame(self, position: int) -> bool:
        """Tell whether a position has a picture. It is not decoded, and may turn out to be damaged."""
        return True

    def view(self, position: int, size: int) -> tuple[Float[Tensor, "3 {size} {size}"], Float[Tensor, "3 3"]]:
        """Read a frame, cropped to its central square and resized: the image in [-1, 1] and its intrinsics.

        Raises:
            UnreadableError: the frame cannot be used.
        """
        return square_image(self.frame(position), self.intrinsics[position], size)

    def mask(self, position: int, size: int) -> Float[Tensor, "1 {size} {size}"]:
        """Read the foreground's probability, cropped and resized like the view.

        Raises:
            UnreadableError: there is no such mask.
        """
        raise UnreadableError(f"scene {self.key}: has no masks")

    def scaled_poses(self, factor: float) -> Float[Tensor, "n 4 4"]:
        """Return the poses in a scene scaled by a factor."""
        return scale_translations(self.camera_to_world, factor)

    def has_camera(self) -> Bool[Tensor, " n"]:
        """Tell which positions have a camera: a rotation, a possible position, and possible intrinsics."""
        return is_valid_pose(self.camera_to_world) & is_valid_intrinsics(self.intrinsics)

    def usable_positions(self) -> list[int]:
        """List, in order, the positions that have both a camera and a picture; views are chosen from these."""
        cameras = self.has_camera().tolist()
        return [position for position, valid in enumerate(cameras) if valid and self.has_frame(position)]


class SceneReader(ABC):
    """The scenes of a data set's split."""

    description: str = ""
    """What was found at the root, to be said aloud."""

    @abstractmethod
    def keys(self) -> list[str]:
        """List the names of all scenes, in the same order every time."""

    @abstractmethod
    def scene(self, key: str) -> Scene:
        """Open a scene.

        Raises:
            UnreadableError: its cameras, or the file that holds it, cannot be read.
        """

    def containers(self) -> list[int] | None:
        """Return for each key the number of the file that holds the scene; None if each has its own file."""
        return None
