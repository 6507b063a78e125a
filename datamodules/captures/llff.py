"""poses_bounds.npy, as LLFF writes it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from datamodules.captures.lens import Lens
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import pose_matrix

POSES_FILE = "poses_bounds.npy"


class LLFF(NamedTuple):
    """Cameras in the sorted order of the pictures, and the depths between which each sees things."""

    camera_to_world: Float64[Tensor, "n 4 4"]
    lenses: list[Lens]
    near: Float64[Tensor, " n"]
    far: Float64[Tensor, " n"]

    def depth(self) -> float:
        """A typical depth: the harmonic mean of near and far, where disparity is halfway."""
        return float((2 / (1 / self.near + 1 / self.far)).median())


def read_llff(path: Path) -> LLFF:
    """Read a file of poses and bounds."""
    try:
        table = np.load(path, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} should be a NumPy array [N, 17]: {error}") from None
    if table.ndim != 2 or table.shape[1] != 17 or not len(table):
        raise UserError(f"{path}: expected an array [N, 17], got {list(table.shape)}")
    matrices = torch.from_numpy(table[:, :15].reshape(-1, 3, 5).copy())
    # The columns are down, right, backward, position.
    down, right, backward, position, sizes = matrices.unbind(dim=2)
    poses = pose_matrix(torch.stack([right, down, -backward], dim=2), position)
    lenses = [Lens(width, height, f, f, width / 2, height / 2) for height, width, f in sizes.tolist()]
    near, far = torch.from_numpy(table[:, 15:].copy()).unbind(dim=1)
    return LLFF(poses, lenses, near, far)
