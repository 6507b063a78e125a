"""What the tests of the command line say about the toy's runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Run = Callable[..., Path]


def checkpoint(run_folder: Path, step: int = 20) -> Path:
    """The checkpoint that a run wrote after so many steps."""
    return run_folder / "checkpoints" / f"{step}.ckpt"


def load(path: Path) -> dict[str, Any]:
    """A checkpoint as data."""
    return torch.load(path, weights_only=True)
