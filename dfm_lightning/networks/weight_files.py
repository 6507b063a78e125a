"""Find and read the weights of other projects' networks."""

import os
import pickle
from pathlib import Path

import torch
from torch import Tensor

from dfm_lightning.errors import UserError


def cached_weights(name: str) -> Path:
    """Return where torch itself would keep a downloaded file of that name: in $TORCH_HOME/hub/checkpoints."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def find_weights(name: str, url: str, purpose: str, given: str | Path | None = None) -> Path:
    """Return the given file, else the one of that name in torch's cache.

    Raises:
        UserError: there is none; the message says where to get it and where to put it.
    """
    cache = cached_weights(name)
    path = Path(given).expanduser() if given else cache
    if not path.is_file():
        raise UserError(
            f"{purpose}: expected weights at {_from_home(path)}, but there is no file. "
            f"Get {url} and put it at {_from_home(cache)}, or give its path as `weights`."
        )
    return path


def _from_home(path: Path) -> str:
    """Return a path as one writes it: reports hold these messages, and are shown on other machines."""
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)


def read_weights(path: Path, content: str, url: str) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint by name, and nothing else from the file.

    Raises:
        UserError: the file is not such a checkpoint.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
            raise TypeError("it is not a dictionary of tensors")
    except (TypeError, RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise not_the_weights(path, content, url, error) from error
    return weights


def not_the_weights(path: Path, content: str, url: str, error: Exception) -> UserError:
    """Build the error for a file that holds something else."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"{os.fspath(path)} does not hold {content} ({reason}): get the file again from {url}")
