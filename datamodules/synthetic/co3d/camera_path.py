"""The path of a hand-held camera around an object."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.geometry.cameras import intrinsics_matrix, look_at

_FOCAL_LENGTH = 1.05
"""In fractions of the image's shorter side: a field of view of 51 degrees."""


class CameraPath(NamedTuple):
    """Cameras once around the object, in the scene's own units, and the point they look at (nearly)."""

    camera_to_world: Float[Tensor, "v 4 4"]
    intrinsics: Float[Tensor, "3 3"]
    middle: Float[Tensor, "3"]


def draw_camera_path(random: np.random.Generator, frames: int, height: int, width: int) -> CameraPath:
    """Draw a path that starts at a random azimuth, goes around either way and up and down, and shakes a little."""
    around = np.arange(frames) / frames * 2 * np.pi
    azimuth = random.uniform(0, 2 * np.pi) + random.choice([-1, 1]) * around
    sway = random.uniform(10, 15) * np.sin(around * int(random.integers(1, 3)) + random.uniform(0, 2 * np.pi))
    elevation = np.radians(random.uniform(18, 26) + sway)
    distance = random.uniform(2.6, 2.9) + random.uniform(0.3, 0.5) * np.sin(around + random.uniform(0, 2 * np.pi))
    middle = np.array([0, 0.55, 0])
    outward = np.stack(
        [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], axis=1
    )
    position = middle + distance[:, None] * outward
    target = middle + random.normal(0, 0.2, size=(frames, 3))
    pose = look_at(torch.from_numpy(position), torch.from_numpy(target), torch.tensor([0.0, 1.0, 0.0]).double())

    focal = _FOCAL_LENGTH * random.uniform(0.95, 1.05) * min(height, width)
    intrinsics = intrinsics_matrix(
        torch.tensor([focal / width, focal / height]).double(),
        torch.from_numpy(0.5 + random.normal(0, 0.004, size=2)),
    )
    return CameraPath(pose.float(), intrinsics.float(), torch.from_numpy(middle).float())
