"""The config that a checkpoint carries: everything the run was made with, as a dict of primitives."""

import pickle
from pathlib import Path
from typing import Any

import torch

from dfm_lightning.errors import UserError

CONFIG_KEY = "dfm_config"


def stored_config(path: Path) -> dict[str, Any]:
    """The config in a checkpoint; empty if it carries none.

    Raises:
        UserError: there is no such file, or it is not a checkpoint.
    """
    if not path.is_file():
        raise UserError(f"No checkpoint '{path}': there is no such file.")
    try:
        # Mapped, since only the config is read here: the tensors stay on disk.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"'{path}' is not a checkpoint: it is damaged, or another kind of file.") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"'{path}' is not a checkpoint of this program: it has no state_dict.")
    return content.get(CONFIG_KEY, {})
