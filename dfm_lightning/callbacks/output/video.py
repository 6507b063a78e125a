"""Write MP4 files with imageio's own ffmpeg: H.264 that browsers play, and the same bytes every time."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from jaxtyping import UInt8

from dfm_lightning.callbacks.output.pictures import enlarge
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file

# Players scale small videos up with a blur, or show them at the size of a stamp.
SHORTEST_SIDE = 256
# x264's constant rate factor: 0 is lossless, 51 the worst.
RATE_FACTOR = 10


class _FfmpegError(Exception):
    """Ffmpeg has failed, with the reason if known."""


def write_video(path: Path, frames: UInt8[np.ndarray, "n h w 3"], frame_rate: int) -> None:
    """Write a whole MP4 file. Small frames are enlarged by a whole factor; odd sizes gain a repeated row.

    Raises:
        UserError: ffmpeg is missing, or ended early; no part of the file remains.
    """
    try:
        with whole_file(path) as aside:
            _encode(aside, frames, frame_rate)
    except _FfmpegError as error:
        raise UserError(f"{path} cannot be written: {error}") from error


def _encode(path: Path, frames: UInt8[np.ndarray, "n h w 3"], frame_rate: int) -> None:
    height, width, _ = _even(enlarge(frames[0], SHORTEST_SIDE)).shape
    command = [
        # -xerror: otherwise ffmpeg continues after some errors, and reports success.
        *(_ffmpeg(), "-y", "-loglevel", "error", "-xerror"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(frame_rate), "-i", "-"),
        *("-an", "-c:v", "libx264", "-crf", str(RATE_FACTOR), "-pix_fmt", "yuv420p"),
        # One thread: x264 splits a frame by the number of threads, so the bytes would depend on the machine.
        *("-threads", "1", "-movflags", "+faststart", "-fflags", "+bitexact", str(path)),
    ]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise _FfmpegError(f"ffmpeg does not start ({error.strerror}: {command[0]})") from error
    # Errors are read concurrently: a full pipe would block ffmpeg.
    with ThreadPoolExecutor(1) as beside, process:
        assert process.stdin is not None
        assert process.stderr is not None
        errors = beside.submit(process.stderr.read)
        # If ffmpeg has ended, its status tells.
        with suppress(BrokenPipeError):
            for frame in frames:
                process.stdin.write(np.ascontiguousarray(_even(enlarge(frame, SHORTEST_SIDE))).tobytes())
        with suppress(BrokenPipeError):
            process.stdin.close()
        said = errors.result().decode(errors="replace").strip().splitlines()
    status = process.returncode
    if status != 0:
        ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        raise _FfmpegError(f"ffmpeg {ended}{f' ({said[0]})' if said else ''}")


def _ffmpeg() -> str:
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise _FfmpegError(
            "ffmpeg is not there: install it, or a wheel of imageio-ffmpeg that holds it, or name it in the "
            "variable IMAGEIO_FFMPEG_EXE"
        ) from error


def _even(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Repeat the last row or column if the height or width is odd (the colour planes have half the size)."""
    return np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
