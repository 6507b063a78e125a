"""Write checkpoints whole or not at all, and never over another training's."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.cloud_io import _is_local_file_protocol

from dfm_lightning.errors import UserError
from dfm_lightning.files import PARTIAL, whole_file
from dfm_lightning.training.notices import relative, say
from dfm_lightning.weights_file import SUFFIX, read_weights_file

Checkpoint = dict[str, Any]


class WholeCheckpoints(TorchCheckpointIO):
    """Write a checkpoint beside its final place, in the same folder, and rename it.

    A full disk or a kill therefore leaves neither a partial file nor a gap, and the temporary folder plays no
    part. A file that cannot be written stops the training. A file of another training with the same name
    (`last.ckpt` of an earlier run) is kept under another one.

    Args:
        complete: adds to weights-only checkpoints what Lightning asks no callback for.
    """

    def __init__(self, complete: Callable[[Checkpoint], None] = lambda checkpoint: None) -> None:
        self.complete = complete
        self._own: set[Path] = set()
        self._tidied: set[Path] = set()

    # The base class does not say what a path is.
    def save_checkpoint(self, checkpoint: Checkpoint, path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            UserError: it cannot be written. The file at `path` is unchanged.
        """
        if "optimizer_states" not in checkpoint:
            self.complete(checkpoint)
        if not _is_local_file_protocol(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(os.path.abspath(path))
        try:
            with whole_file(path) as aside:
                self._remove_leftovers(path.parent, aside)
                with aside.open("wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
                if path not in self._own:
                    keep_other(path)
        except (OSError, RuntimeError) as error:  # torch's writer raises an error of its own
            cause = system_error(error)
            if cause is None:
                raise
            raise UserError(
                f"The checkpoint of step {checkpoint.get('global_step')} cannot be written to {relative(path)}: "
                f"{cause}. Training stops here; what had been written before is untouched."
            ) from error
        self._own.add(path)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> Checkpoint:
        """Read a checkpoint, or a safetensors file of weights.

        The checkpoint that a training continues may be replaced by a later one of its own.
        """
        if Path(path).suffix == SUFFIX:
            return read_weights_file(Path(path))
        content = super().load_checkpoint(path, *args, **kwargs)
        self._own.add(Path(os.path.abspath(path)))
        return content

    def _remove_leftovers(self, folder: Path, own: Path) -> None:
        """Remove, once, the half-written files of a killed training."""
        if folder in self._tidied:
            return
        self._tidied.add(folder)
        for leftover in folder.glob(f"{PARTIAL}*.ckpt"):
            if leftover != own:
                leftover.unlink(missing_ok=True)


def keep_other(path: Path) -> None:
    """Give another training's file at `path` a second name, which remains when `path` is replaced."""
    if path.is_symlink() or not path.is_file():  # the file behind a link has a name already
        return
    kept = _free_name(path)
    try:
        os.link(path, kept)
    except OSError:  # a file system without links
        path.rename(kept)
    say(f"{relative(path)} was of another training, and is now of this one; the other is kept as {kept.name}.")


def system_error(error: BaseException) -> str | None:
    """Describe the first operating-system error among an error and its causes; None if there is none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return (cause.strerror or str(cause)).lower()
        cause = cause.__cause__ or cause.__context__
    return None


def _free_name(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.stem}-older-{number}{path.suffix}")).exists():
        number += 1
    return kept
