"""Weights and the config of their model in one safetensors file."""

import json
from pathlib import Path
from typing import Any

import lightning
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file

SUFFIX = ".safetensors"
# The name of the config in a checkpoint and, as JSON, in the metadata of a safetensors file.
CONFIG_KEY = "dfm_config"


def write_weights_file(path: Path, state: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write tensors by name and a config of primitives; the same content gives the same bytes."""
    tensors = {name: state[name].contiguous().clone() for name in sorted(state)}
    with whole_file(path) as aside:
        # (The library's own writer gives files that only their owner can read.)
        aside.write_bytes(save(tensors, {CONFIG_KEY: json.dumps(config, sort_keys=True)}))


def read_weights_file(path: Path) -> dict[str, Any]:
    """Read what `write_weights_file` wrote, as a checkpoint without a training's state.

    Tensors of float16 become float32.

    Raises:
        UserError: it is no such file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {}).get(CONFIG_KEY, ""))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
        if not isinstance(config, dict):
            raise TypeError(f"the config is a {type(config).__name__}")
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(
            f"'{path}' holds no model: expected a safetensors file with weights and a config, as "
            "`dfm convert to-safetensors` writes it"
        ) from error
    return {
        "state_dict": {
            name: value.float() if value.dtype == torch.float16 else value for name, value in state.items()
        },
        CONFIG_KEY: config,
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "global_step": 0,
    }
