"""Captures of one's own as a data root: transforms.json, COLMAP's model or poses_bounds.npy with pictures."""

from pathlib import Path

import torch
from jaxtyping import Float64
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from datamodules.captures.capture import Capture, CapturedFrame
from datamodules.captures.colmap import find_colmap, read_colmap
from datamodules.captures.llff import POSES_FILE, read_llff
from datamodules.captures.transforms import TRANSFORMS_FILE, find_transforms, read_lens, read_transforms
from dfm_lightning.errors import UserError

__all__ = ["Capture", "is_capture", "open_capture"]

_PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


def is_capture(root: Path) -> bool:
    """Whether a folder holds cameras in one of the forms that `open_capture` reads."""
    found = find_transforms(root) is not None or (root / POSES_FILE).is_file()
    return found or find_colmap(root) is not None


def open_capture(root: Path, target_depth: float) -> Capture:
    """Read a capture: transforms.json if there is one, else poses_bounds.npy, else COLMAP's model.

    Args:
        root: the folder.
        target_depth: what is typically seen is to be at this distance, in scene units.
    """
    listing = find_transforms(root)
    if listing is not None:
        form, (frames, poses, depth) = TRANSFORMS_FILE, _from_transforms(listing)
    elif (root / POSES_FILE).is_file():
        form, (frames, poses, depth) = POSES_FILE, _from_llff(root)
    else:
        form, (frames, poses, depth) = "COLMAP's model", _from_colmap(root)
    bent = sum(not frame.lens.is_straight for frame in frames)
    description = f"a capture of {len(frames)} frames by {form}" + (", distortion undone" if bent else "")
    return Capture(root.resolve().name, frames, poses, depth, target_depth, description)


Found = tuple[list[CapturedFrame], Float64[Tensor, "n 4 4"], float | None]


def _from_transforms(path: Path) -> Found:
    files, poses, properties = read_transforms(path)
    kept = _present(files, path)
    frames = [CapturedFrame(files[index], read_lens(properties[index], files[index], path)) for index in kept]
    return frames, poses[kept], None


def _from_llff(root: Path) -> Found:
    found = read_llff(root / POSES_FILE)
    folders = [root / "images", *sorted(root.glob("images_*"))]
    pictures = {folder: _pictures(folder) for folder in folders}
    fitting = [files for files in pictures.values() if len(files) == len(found.lenses)]
    if not fitting:
        counts = ", ".join(f"{folder.name}: {len(files)}" for folder, files in pictures.items())
        raise UserError(
            f"{root / POSES_FILE} has {len(found.lenses)} poses, but no folder has as many images ({counts})"
        )
    frames = [CapturedFrame(file, lens) for file, lens in zip(fitting[0], found.lenses, strict=True)]
    return frames, found.camera_to_world, found.depth()


def _from_colmap(root: Path) -> Found:
    folder = find_colmap(root)
    if folder is None:
        raise UserError(f"{root} holds no capture: no {TRANSFORMS_FILE}, {POSES_FILE} or model of COLMAP")
    model = read_colmap(folder)
    pictures = root / "images" if (root / "images").is_dir() else root
    images = list(model.images.values())
    files = [pictures / image.name for image in images]
    kept = sorted(_present(files, folder), key=lambda index: images[index].name)
    frames = [CapturedFrame(files[index], model.lenses[images[index].camera]) for index in kept]
    return frames, model.camera_to_world()[torch.tensor(kept)], model.depth()


def _present(files: list[Path], listed_in: Path) -> list[int]:
    """The indices of files that exist; says how many do not. Raises UserError if none does."""
    kept = [index for index, file in enumerate(files) if file.is_file()]
    if not kept:
        raise UserError(f"{listed_in} lists {len(files)} frames, none of which exists, such as {files[0]}")
    missing = [file for file in files if not file.is_file()]
    if missing:
        rank_zero_warn(f"{listed_in}: {len(missing)} of {len(files)} frames are missing, such as {missing[0]}")
    return kept


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in _PICTURES)
