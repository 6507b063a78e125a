"""RealEstate10k's camera text files: a URL, then a line of 19 numbers for each frame."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from datamodules.image_files import UnreadableError
from dfm_lightning.files import write_text
from dfm_lightning.geometry.cameras import realestate10k_to_opencv

COLUMNS = 19
DECIMALS = 9
NO_TIMESTAMP = -1
# Microseconds in more than a century; larger numbers are not timestamps, and may not fit into 64 bits.
LATEST = 10**16


class CameraPath(NamedTuple):
    """The cameras of a clip, in the order of its frames.

    `timestamps` are microseconds from the start of the video; `numbers` are the rest of each line (see
    `realestate10k_to_opencv`). A line that cannot be parsed keeps its place, with NaN for its numbers.
    """

    url: str
    timestamps: Int64[Tensor, " n"]
    numbers: Float64[Tensor, "n 18"]

    def cameras(self) -> tuple[Float64[Tensor, "n 4 4"], Float64[Tensor, "n 3 3"]]:
        """Return camera-to-world poses and normalised intrinsics.

        The numbers are rounded to 32 bits: some forms of the data set hold no more, and all forms give the same.
        """
        return realestate10k_to_opencv(self.numbers.float().double())


def read_camera_file(path: Path) -> CameraPath:
    """Read a camera text file.

    Blank lines and comments that begin with # are skipped. The first remaining line is the URL, unless it begins
    with a number and has further fields: some files hold cameras alone.

    Raises:
        UnreadableError: the file is not a camera text file, or has no line of numbers.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path}: not a readable text file ({error})") from None
    lines = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    url = "" if not lines or _is_camera(lines[0]) else lines.pop(0)
    rows = [_parse(line) for line in lines]
    if not rows:
        raise UnreadableError(f"{path}: no camera in it")
    timestamps, numbers = zip(*rows, strict=True)
    return CameraPath(url, torch.tensor(timestamps), torch.tensor(numbers, dtype=torch.float64))


def _is_camera(line: str) -> bool:
    """Tell whether a line is meant as a camera, even if it is faulty."""
    first, *others = line.split()
    with suppress(ValueError):
        float(first)
        return bool(others)
    return False


def _parse(line: str) -> tuple[int, list[float]]:
    """Parse the timestamp and 18 numbers of a line; NaN if there are more, fewer, or other fields."""
    words = line.split()
    try:
        timestamp, numbers = int(float(words[0])), [float(word) for word in words[1:]]
        if abs(timestamp) > LATEST:
            raise ValueError
    except (ValueError, OverflowError):
        timestamp, numbers = NO_TIMESTAMP, []
    return timestamp, numbers if len(numbers) == COLUMNS - 1 else [float("nan")] * (COLUMNS - 1)


def write_camera_file(path: Path, cameras: CameraPath) -> None:
    """Write a camera text file, with as many decimals as the official ones."""
    lines = [
        " ".join([str(timestamp), *(f"{number:.{DECIMALS}f}" for number in numbers)])
        for timestamp, numbers in zip(cameras.timestamps.tolist(), cameras.numbers.tolist(), strict=True)
    ]
    write_text(path, "\n".join([cameras.url, *lines]) + "\n")
