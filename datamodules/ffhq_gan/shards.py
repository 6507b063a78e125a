"""The files of a sample cache, from which single samples are read."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from datamodules.image_files import UnreadableError
from datamodules.last_used import LastUsed

# Seeds k · SHARD to (k + 1) · SHARD − 1 lie in shard k.
SHARD = 256
OPEN_SHARDS = 32


class StoredSample(NamedTuple):
    """An image as 8-bit numbers, and its code."""

    image: UInt8[Tensor, "3 h w"]
    code: Float[Tensor, " w_dim"]


class Shards:
    """The samples in a folder by their seeds; the part of a cache that worker processes receive.

    Args:
        folder: where the samples are.
        resolution: height and width of their images.
    """

    def __init__(self, folder: Path, resolution: int) -> None:
        self.folder = folder
        self.resolution = resolution
        self._open = LastUsed(self._read, OPEN_SHARDS)

    def images(self, shard: int) -> Path:
        """Return the file of a shard's images."""
        return self.folder / "images" / f"{shard:07}.npy"

    def codes(self, shard: int) -> Path:
        """Return the file of a shard's codes."""
        return self.folder / "codes" / f"{shard:07}.npy"

    def problem(self, shard: int) -> str | None:
        """Return why a shard cannot be read; None if it can."""
        try:
            self._read(shard)
        except UnreadableError as error:
            return str(error)
        return None

    def __getitem__(self, seed: int) -> StoredSample:
        """Read the sample of a seed. Raises UnreadableError if its shard is missing or damaged."""
        images, codes = self._open(seed // SHARD)
        place = seed % SHARD
        return StoredSample(torch.from_numpy(images[place].copy()), torch.from_numpy(codes[place].copy()))

    def _read(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        images = _load(self.images(shard), np.uint8, (SHARD, 3, self.resolution, self.resolution))
        return images, _load(self.codes(shard), np.float32, (SHARD, None))


def _load(path: Path, kind: type, shape: tuple[int | None, ...]) -> np.ndarray:
    """Open an array that stays on disk. Raises UnreadableError unless it has this type and shape (None: any
    length).
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UnreadableError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise UnreadableError(f"{path}: not a readable array ({error})") from None
    found = getattr(array, "shape", ())
    if len(found) != len(shape) or any(want not in (None, have) for want, have in zip(shape, found, strict=True)):
        raise UnreadableError(f"{path}: expected an array of shape {shape}, got {found}")
    if array.dtype != kind:
        raise UnreadableError(f"{path}: expected {kind.__name__}, got {array.dtype}")
    return array
