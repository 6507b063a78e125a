"""Camera paths from files: RealEstate10k's camera text files and transforms.json."""

from pathlib import Path

import torch
from jaxtyping import Float64
from torch import Tensor

from datamodules.captures.listing import summarise
from datamodules.captures.transforms import read_poses
from datamodules.image_files import UnreadableError
from datamodules.posed.camera_files import read_camera_file
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import is_valid_pose


def read_camera_path(path: Path) -> Float64[Tensor, "n 4 4"]:
    """Read camera-to-world poses, with OpenCV axes, in the file's own frame and unit of length.

    Args:
        path: a text file of RealEstate10k (.txt), or a transforms.json (.json), whose pictures are not needed.
    """
    if path.suffix.lower() == ".txt":
        try:
            poses, _ = read_camera_file(path).cameras()
        except UnreadableError as error:
            raise UserError(str(error)) from None
    elif path.suffix.lower() == ".json":
        frames, left_out = read_poses(path)
        if left_out:
            raise UserError(f"{path}: {summarise(left_out, len(frames) + len(left_out))}")
        return torch.stack([frame.pose for frame in frames])
    else:
        raise UserError(f"{path}: a camera path is a .txt of RealEstate10k or a transforms.json")
    bad = (~is_valid_pose(poses)).nonzero().flatten().tolist()
    if bad:
        raise UserError(
            f"{path}: {len(bad)} of {len(poses)} lines hold no camera, the first is number {bad[0] + 1}"
        )
    return poses
