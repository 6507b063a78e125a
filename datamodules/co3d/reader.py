"""Co3D's sequences as scenes of posed images."""

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from datamodules.co3d.frames import open_frame, read_mask, read_view
from datamodules.co3d.object_crops import ObjectCrop
from datamodules.co3d.scenes import ScaledSequence
from datamodules.posed.scenes import Scene, SceneReader


class Co3DScene(Scene):
    """A sequence as a scene: all of its cameras, and views of the frames that its split may use.

    Args:
        source: the sequence with its scale.
        target_scale: that scale in scene units.
        crop: cuts views out around the object; their central squares without.
    """

    def __init__(self, source: ScaledSequence, target_scale: float, crop: ObjectCrop | None = None) -> None:
        super().__init__(source.sequence.name, source.poses(target_scale), source.sequence.intrinsics)
        self.source = source
        self.target_scale = target_scale
        self.crop = crop
        numbers = [frame.number for frame in source.sequence.frames]
        self.prescribed = tuple(numbers.index(number) for _, number in source.batch[:2] if number in numbers)

    def scaled_poses(self, factor: float) -> Float[Tensor, "n 4 4"]:
        """Return the poses in a scene scaled by a factor; scaled once, so rounded once."""
        return self.source.poses(self.target_scale * factor)

    def has_camera(self) -> Bool[Tensor, " n"]:
        """Tell which positions have a camera that can be used."""
        return torch.tensor([frame.problem is None for frame in self.source.sequence.frames])

    def usable_positions(self) -> list[int]:
        """List the frames of the split; in evaluation some may have no usable camera."""
        return self.source.frames

    def has_frame(self, position: int) -> bool:
        """Tell whether the frame's file exists."""
        return self.source.sequence.frames[position].path.is_file()

    def frame(self, position: int) -> Image.Image:
        """Read the picture at a position, in full size. Raises UnreadableError."""
        with open_frame(self.source.sequence.frames[position]) as picture:
            return picture.copy()

    def view(self, position: int, size: int) -> tuple[Float[Tensor, "3 {size} {size}"], Float[Tensor, "3 3"]]:
        """Read a frame as a square, like `read_view`, which refuses all-black pictures."""
        if self.crop is not None:
            return self.crop.view(self.source.sequence.frames[position], self.intrinsics[position], size)
        return read_view(self.source.sequence.frames[position], self.intrinsics[position], size)

    def mask(self, position: int, size: int) -> Float[Tensor, "1 {size} {size}"]:
        """Read the foreground's probability. Raises UnreadableError."""
        frame = self.source.sequence.frames[position]
        return read_mask(frame, size) if self.crop is None else self.crop.mask(frame, size)


class Co3DReader(SceneReader):
    """The sequences of a split, by name."""

    def __init__(
        self, sequences: list[ScaledSequence], target_scale: float | None, crop: ObjectCrop | None = None
    ) -> None:
        self._sequences = {source.sequence.name: source for source in sequences}
        self._target_scale = target_scale
        self._crop = crop

    def keys(self) -> list[str]:
        """List the sequences, category by category."""
        return list(self._sequences)

    def scene(self, key: str) -> Scene:
        """Open a sequence."""
        source = self._sequences[key]
        scale = source.scale.value if self._target_scale is None else self._target_scale
        return Co3DScene(source, scale, self._crop)
