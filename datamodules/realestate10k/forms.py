"""Detect the form of RealEstate10k, or the capture, at a root."""

from pathlib import Path

from datamodules.captures import is_capture, open_capture
from datamodules.folders import find_files
from datamodules.posed.scenes import SceneReader, Split
from datamodules.realestate10k.chunks import INDEX_FILE, ChunkReader
from datamodules.realestate10k.frame_folders import FolderReader
from datamodules.realestate10k.mat_files import MatReader
from dfm_lightning.errors import UserError

SPLITS: tuple[Split, ...] = ("train", "test")


class AbsentSplitError(UserError):
    """A root has nothing of a split."""


def open_reader(root: Path, split: Split, capture_depth: float) -> SceneReader:
    """Open the scenes of a split, by what the root holds.

    Args:
        root: holds <split>/*.torch with index.json; or <split>.mat and realestate/<split>/<scene>/data.npz; or
            <split>/<scene>.txt with folders <split>/<scene>/ of frames. Or it is a capture, whose one scene is for
            test.
        split: which scenes.
        capture_depth: distance, in scene units, to which a capture's typical content is scaled.

    Raises:
        AbsentSplitError: the root has none of these.
        UserError: the files cannot be opened.
    """
    if not root.is_dir():
        raise UserError(f"expected a folder with RealEstate10k or a capture, but there is no folder {root}")
    if is_capture(root):
        if split == "train":
            raise AbsentSplitError(
                f"{root} is a capture of one scene: it is for test and predict, not for training"
            )
        return open_capture(root, capture_depth)
    for base in (root, root / "RealEstate10K"):
        folder = base / split
        if (folder / INDEX_FILE).is_file() or find_files(folder, ".torch"):
            return ChunkReader(folder)
        if (base / f"{split}.mat").is_file():
            return MatReader(base, split)
        if find_files(folder, ".txt"):
            return FolderReader(folder)
    raise AbsentSplitError(
        f"{root} holds no RealEstate10k: expected {split}/*.torch with {INDEX_FILE}, {split}.mat, or "
        f"{split}/<scene>.txt; or a capture with transforms.json, poses_bounds.npy or COLMAP's sparse model"
    )
