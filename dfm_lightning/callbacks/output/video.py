"""MP4 files with imageio's own ffmpeg: H.264 that browsers play, and the same bytes every time."""

from pathlib import Path

import imageio.v2 as imageio
import numpy as np
from jaxtyping import UInt8

from dfm_lightning.callbacks.output.pictures import enlarge
from dfm_lightning.files import whole_file

# Players scale small videos up with a blur, or show them the size of a stamp.
SHORTEST_SIDE = 256


def write_video(path: Path, frames: UInt8[np.ndarray, "n h w 3"], frame_rate: int) -> None:
    """Write a whole MP4 file. Small frames are enlarged by a whole factor; odd sizes gain a repeated row."""
    with whole_file(path) as aside:
        writer = imageio.get_writer(
            aside,
            # By its name, as imageio documents it; its annotation has the class alone.
            format="FFMPEG",  # type: ignore[arg-type]
            mode="I",
            fps=frame_rate,
            codec="libx264",
            quality=8,
            pixelformat="yuv420p",
            macro_block_size=2,
            # One thread: x264 splits a frame by the number of threads, and the bytes would follow the machine.
            output_params=["-threads", "1", "-movflags", "+faststart", "-fflags", "+bitexact"],
        )
        with writer:
            for frame in frames:
                writer.append_data(_even(enlarge(frame, SHORTEST_SIDE)))


def _even(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Repeat the last row or column where the height or width is odd (the colour planes have half the size)."""
    return np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
