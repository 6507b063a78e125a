"""Captures as a data root: pictures with transforms.json, a COLMAP model or poses_bounds.npy."""

from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from datamodules.captures.capture import Capture
from datamodules.captures.colmap import find_colmap, read_colmap
from datamodules.captures.lens import FrameError
from datamodules.captures.listing import LeftOut, ListedFrame, Listing, summarise
from datamodules.captures.llff import POSES_FILE, read_llff
from datamodules.captures.transforms import TRANSFORMS_FILE, find_transforms, read_transforms
from dfm_lightning.errors import UserError
from dfm_lightning.wording import counted

__all__ = ["Capture", "is_capture", "open_capture"]


def is_capture(root: Path) -> bool:
    """Tell whether a folder holds cameras in one of the forms that `open_capture` reads."""
    found = find_transforms(root) is not None or (root / POSES_FILE).is_file()
    return found or find_colmap(root) is not None


def open_capture(root: Path, target_depth: float) -> Capture:
    """Read a capture: transforms.json if it exists, else poses_bounds.npy, else a COLMAP model.

    Frames that cannot be used are left out, with a warning.

    Args:
        root: the folder.
        target_depth: distance, in scene units, at which typical content is placed.

    Raises:
        UserError: the files are damaged, or none of their frames can be used.
    """
    listing = _usable(_read(root))
    total = len(listing.frames) + len(listing.left_out)
    problems = summarise(listing.left_out, total)
    if not listing.frames:
        raise UserError(f"{listing.file}: {problems}" if total else f"{listing.file} lists no frames")
    if listing.left_out:
        rank_zero_warn(f"{listing.file}: {problems}")
    description = f"a capture of {counted(len(listing.frames), 'frame')} by {listing.form}"
    if any(not frame.lens.is_straight for frame in listing.frames):
        description += ", distortion undone"
    if listing.left_out:
        description += f"; {problems}"
    return Capture(root.resolve().name, listing, target_depth, description)


def _read(root: Path) -> Listing:
    transforms = find_transforms(root)
    if transforms is not None:
        return read_transforms(transforms)
    if (root / POSES_FILE).is_file():
        return read_llff(root / POSES_FILE)
    folder = find_colmap(root)
    if folder is None:
        raise UserError(f"{root} holds no capture: no {TRANSFORMS_FILE}, {POSES_FILE} or model of COLMAP")
    return read_colmap(folder, root / "images" if (root / "images").is_dir() else root)


def _usable(listing: Listing) -> Listing:
    """Return the listing without frames that lack a picture or whose lens cannot be undistorted."""
    frames, left_out = [], list(listing.left_out)
    for frame in listing.frames:
        try:
            _check(frame)
            frames.append(frame)
        except FrameError as error:
            left_out.append(LeftOut(frame.where, error.kind, error.detail))
    return listing._replace(frames=frames, left_out=left_out)


def _check(frame: ListedFrame) -> None:
    if not frame.path.is_file():
        raise FrameError("the picture is missing", f"there is no file {frame.path}")
    frame.lens.pinhole()
