"""poses_bounds.npy, as LLFF writes it."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from datamodules.captures.lens import FrameError, opencv_lens
from datamodules.captures.listing import LeftOut, ListedFrame, Listing, check_pose, list_pictures, typical_depth
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import pose_matrix

POSES_FILE = "poses_bounds.npy"


def read_llff(path: Path) -> Listing:
    """Read a file of poses and bounds, with the pictures in the folder `images` beside it (or `images_4` and the
    like).

    The sorted order of the pictures' names is that of the rows. The typical depth is the median of `typical_depth`
    over the usable rows.

    Raises:
        UserError: the file is not such an array, or no folder has as many pictures.
    """
    table = _read_table(path)
    pictures = _find_pictures(path, len(table))
    frames: list[ListedFrame] = []
    left_out: list[LeftOut] = []
    depths = []
    for number, (row, picture) in enumerate(zip(table, pictures, strict=True)):
        where = f"row {number} ({picture.name})"
        try:
            frame, depth = _frame(where, picture, row), typical_depth(*row[15:].tolist())
        except FrameError as error:
            left_out.append(LeftOut(where, error.kind, error.detail))
            continue
        frames.append(frame)
        depths.append(depth)
    return Listing(path.name, path, frames, left_out, float(np.median(depths)) if depths else None)


def _read_table(path: Path) -> Float64[np.ndarray, "n 17"]:
    try:
        table = np.load(path, allow_pickle=False)
    except Exception as error:  # damaged arrays and archives raise many kinds of errors, from zip, zlib and NumPy
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} should be a NumPy array [N, 17]: {reason}") from None
    if not isinstance(table, np.ndarray):
        table.close()
        raise UserError(f"{path}: expected an array [N, 17], got an archive of arrays (.npz)")
    if table.ndim != 2 or table.shape[1] != 17 or not len(table) or table.dtype.kind not in "fiu":
        raise UserError(f"{path}: expected numbers [N, 17], got {table.dtype} {list(table.shape)}")
    return table.astype(np.float64)


def _frame(where: str, picture: Path, row: Float64[np.ndarray, "17"]) -> ListedFrame:
    # The columns are down, right, backward, position, and height, width, focal length.
    down, right, backward, position, size = torch.from_numpy(row[:15].reshape(3, 5).copy()).unbind(dim=1)
    pose = pose_matrix(torch.stack([right, down, -backward], dim=1), position)
    check_pose(pose)
    height, width, focal = size.tolist()
    return ListedFrame(
        where, picture, pose, opencv_lens(width, height, (focal, focal), (width / 2, height / 2), {}, False)
    )


def _find_pictures(path: Path, count: int) -> list[Path]:
    folders = [path.parent / "images", *sorted(path.parent.glob("images_*"))]
    pictures = {folder: list_pictures(folder) for folder in folders}
    fitting = [files for files in pictures.values() if len(files) == count]
    if not fitting:
        counts = ", ".join(f"{folder.name}: {len(files)}" for folder, files in pictures.items())
        raise UserError(f"{path} has {count} poses, but no folder has as many images ({counts})")
    return fitting[0]
