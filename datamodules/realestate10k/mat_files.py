"""The form that the original code reads: poses in train.mat and test.mat, frames in one .npz file a scene."""

from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import scipy.io
import torch
from PIL import Image

from datamodules.image_files import UnreadableError, to_rgb
from datamodules.posed.camera_files import COLUMNS, LATEST, NO_TIMESTAMP, CameraPath
from datamodules.posed.scenes import Scene, SceneReader
from datamodules.realestate10k.frame_folders import EXTENSIONS
from dfm_lightning.errors import UserError
from dfm_lightning.wording import counted


class MatScene(Scene):
    """A table of poses, and an archive of decoded pictures named by timestamp."""

    def __init__(self, key: str, table: np.ndarray, archive: Path) -> None:
        self._archive = archive
        if table.ndim != 2 or table.shape[1] != COLUMNS or not len(table) or table.dtype.kind not in "fiu":
            raise UnreadableError(f"{key}: expected poses [N, {COLUMNS}], got {table.dtype} {list(table.shape)}")
        table = table.astype(np.float64)
        timestamps = np.nan_to_num(table[:, 0], nan=NO_TIMESTAMP).clip(NO_TIMESTAMP, LATEST).astype(np.int64)
        path = CameraPath("", torch.from_numpy(timestamps), torch.from_numpy(table[:, 1:].copy()))
        super().__init__(key, *path.cameras())
        self.frame_names = tuple(map(str, path.timestamps.tolist()))
        self._stems = timestamps.tolist()
        try:
            with ZipFile(archive) as members:
                names = (name.removesuffix(".npy") for name in members.namelist())
                self._members = {name.lower(): name for name in names}
        except (OSError, BadZipFile) as error:
            raise UnreadableError(f"{archive}: not a readable archive of frames ({error})") from None

    def has_frame(self, position: int) -> bool:
        return self._member(position) is not None

    def _member(self, position: int) -> str | None:
        """Return the name of a position's picture in the archive."""
        names = (f"{self._stems[position]}{ending}" for ending in EXTENSIONS)
        return next((self._members[name] for name in names if name in self._members), None)

    def frame(self, position: int) -> Image.Image:
        name = self._member(position)
        if name is None:
            raise UnreadableError(f"{self._stems[position]}.jpg in {self._archive}: there is no such picture")
        try:
            with np.load(self._archive, allow_pickle=False) as archive:
                array = archive[name]
            return to_rgb(Image.fromarray(array))
        except Exception as error:  # a damaged archive raises many kinds of errors, from zip, zlib and numpy
            raise UnreadableError(f"{name} in {self._archive}: not a readable picture ({error})") from None


class MatReader(SceneReader):
    """The scenes of `<root>/<split>.mat` with `<root>/realestate/<split>/<scene>/data.npz`."""

    def __init__(self, root: Path, split: str) -> None:
        path = root / f"{split}.mat"
        self._frames = root / "realestate" / split
        self._tables = load_tables(path)
        self.description = f"{counted(len(self._tables), 'scene')} as {path.name} with archives of frames"

    def keys(self) -> list[str]:
        return sorted(self._tables)

    def scene(self, key: str) -> Scene:
        return MatScene(key, self._tables[key], self._frames / key / "data.npz")


def load_tables(path: Path) -> dict[str, np.ndarray]:
    """Load the poses [N, 19] of all scenes."""
    try:
        content = scipy.io.loadmat(path)
    # loadmat raises many kinds of errors, for damage and for files of MATLAB 7.3, which are HDF5.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} should be a MATLAB file (5.0) of poses [N, 19] a scene: {reason}") from None
    return {key: np.asarray(table) for key, table in content.items() if not key.startswith("__")}
