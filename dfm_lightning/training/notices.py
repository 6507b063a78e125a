"""Messages of a training to the user, besides its progress."""

import sys
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_only


@rank_zero_only
def say(line: str) -> None:
    """Print a line to stderr, in one of the processes."""
    print(line, file=sys.stderr)


def newest_checkpoint(trainer: Trainer) -> Path | None:
    """Return the newest checkpoint of this run, else the one that it continues."""
    written = [c._last_checkpoint_saved for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    existing = [Path(path) for path in written if path and Path(path).is_file()]
    if existing:
        return max(existing, key=lambda path: path.stat().st_mtime_ns)
    return Path(trainer.ckpt_path) if trainer.ckpt_path else None


def how_to_go_on(trainer: Trainer) -> str:
    """Write a sentence that names the last good checkpoint."""
    path = newest_checkpoint(trainer)
    return "No checkpoint had been written." if path is None else f"The last good checkpoint is {relative(path)}."


def relative(path: Path) -> Path:
    """Write a path as the user would type it: relative to the working directory if it lies below."""
    try:
        return path.absolute().relative_to(Path.cwd())
    except ValueError:
        return path
