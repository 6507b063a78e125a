"""The mean of training frames: a baseline that any model should beat."""

from collections.abc import Iterator
from contextlib import suppress

import torch
from jaxtyping import Float
from torch import Tensor

from datamodules.image_files import UnreadableError
from datamodules.posed.scenes import Scene, SceneReader
from datamodules.posed.views import read_images

# Number of scenes, and of frames of each, that the mean is taken over.
_SCENES, _FRAMES = 200, 4


def frames_of_many_scenes(reader: SceneReader, keys: list[str]) -> Iterator[tuple[Scene, list[int]]]:
    """Yield some scenes, evenly among the keys, with some of their usable positions; skip unreadable scenes."""
    for key in keys[:: max(1, len(keys) // _SCENES)]:
        with suppress(UnreadableError):
            scene = reader.scene(key)
            positions = scene.usable_positions()
            chosen = positions[:: max(1, len(positions) // _FRAMES)]
            if chosen:
                yield scene, chosen


def mean_of_frames(
    frames: Iterator[tuple[Scene, list[int]]], size: int
) -> Float[Tensor, "3 {size} {size}"] | None:
    """Average frames at positions of scenes, in [-1, 1].

    If one of a scene's positions cannot be read, none of them counts. None if no frame can be read.
    """
    total, count = torch.zeros(3, size, size), 0
    for scene, positions in frames:
        with suppress(UnreadableError):
            total += read_images(scene, positions, size).images.sum(dim=0)
            count += len(positions)
    return None if count == 0 else total / count
