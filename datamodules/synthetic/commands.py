"""The commands of `dfm data` that write synthetic data sets."""

from collections.abc import Callable

from datamodules.synthetic.clips import write_synthetic_clips
from datamodules.synthetic.co3d import write_synthetic_co3d
from datamodules.synthetic.rooms import write_synthetic_rooms

COMMANDS: dict[str, Callable[..., None]] = {
    "make-co3d": write_synthetic_co3d,
    "make-rooms": write_synthetic_rooms,
    "make-clips": write_synthetic_clips,
}
