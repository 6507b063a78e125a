"""RealEstate10k's camera text files: a URL, then a line of 19 numbers for each frame."""

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


class CameraPath(NamedTuple):
    """The cameras of a clip, in the order of its frames.

    `timestamps` are microseconds from the start of the video, `numbers` what follows them on the lines (see
    `realestate10k_to_opencv`). A line that could not be understood keeps its place, with NaN for its numbers.
    """

    url: str
    timestamps: Int64[Tensor, " n"]
    numbers: Float64[Tensor, "n 18"]

    def cameras(self) -> tuple[Float64[Tensor, "n 4 4"], Float64[Tensor, "n 3 3"]]:
        """Camera-to-world poses and normalised intrinsics.

        Of the numbers rounded to 32 bits: some forms of the data set hold no more, and all give the same.
        """
        return realestate10k_to_opencv(self.numbers.float().double())


def read_camera_file(path: Path) -> CameraPath:
    """Read a camera text file.

    Raises:
        UnreadableError: if it is no such file, or has no line of numbers.
    """
    try:
        url, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path}: not a readable text file ({error})") from None
    rows = [_parse(line) for line in lines if line.strip()]
    if not rows:
        raise UnreadableError(f"{path}: no camera in it")
    timestamps, numbers = zip(*rows, strict=True)
    return CameraPath(url.strip(), torch.tensor(timestamps), torch.tensor(numbers, dtype=torch.float64))


def _parse(line: str) -> tuple[int, list[float]]:
    """Timestamp and 18 numbers of a line; NaN where there are more, fewer, or other things than numbers."""
    words = line.split()
    try:
        timestamp, numbers = int(float(words[0])), [float(word) for word in words[1:]]
    except (ValueError, OverflowError):
        timestamp, numbers = NO_TIMESTAMP, []
    return timestamp, numbers if len(numbers) == COLUMNS - 1 else [float("nan")] * (COLUMNS - 1)


def write_camera_file(path: Path, cameras: CameraPath) -> None:
    """Write a camera text file, with as many decimals as the official ones have."""
    lines = [
        " ".join([str(timestamp), *(f"{number:.{DECIMALS}f}" for number in numbers)])
        for timestamp, numbers in zip(cameras.timestamps.tolist(), cameras.numbers.tolist(), strict=True)
    ]
    write_text(path, "\n".join([cameras.url, *lines]) + "\n")
