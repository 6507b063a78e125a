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
# The trained models that come with the program.
PRETRAINED = Path(__file__).parent / "pretrained"
# The name of the config in a checkpoint and, as JSON, in the metadata of a safetensors file.
CONFIG_KEY = "dfm_config"
# Further texts that a model keeps in its checkpoints (see `write_weights_file`). They are stored within the
# config, since the order of several metadata entries would vary.
_BESIDE = "beside"


def name_of(path: str | Path) -> str:
    """Return the name of a model that comes with the program for its file, and any other path as it is."""
    path = Path(path)
    return path.stem if path.suffix == SUFFIX and path.absolute().parent == PRETRAINED.absolute() else str(path)


def write_weights_file(
    path: Path, state: dict[str, Tensor], config: dict[str, Any], beside: dict[str, str] | None = None
) -> None:
    """Write tensors by name and a config of primitives; the same content gives the same bytes.

    Args:
        path: the file to write.
        state: the tensors.
        config: the model's config.
        beside: texts that a model keeps in its checkpoints beside its weights, such as a generator's fingerprint.
    """
    tensors = {name: state[name].contiguous().clone() for name in sorted(state)}
    with whole_file(path) as aside:
        # (The library's own writer makes files that only their owner can read.)
        stored = {**config, _BESIDE: beside} if beside else config
        aside.write_bytes(save(tensors, {CONFIG_KEY: json.dumps(stored, sort_keys=True)}))


def read_weights_file(path: Path) -> dict[str, Any]:
    """Read a file of `write_weights_file`, as a checkpoint without a training's state.

    Tensors of float16 become float32.

    Raises:
        UserError: the file is of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {}).get(CONFIG_KEY, ""))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
        beside = config.pop(_BESIDE, {}) if isinstance(config, dict) else None
        if not isinstance(beside, dict):
            raise TypeError("the metadata hold no config")
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(
            f"'{path}' holds no model: expected a safetensors file with weights and a config, as "
            "`dfm convert to-safetensors` writes it"
        ) from error
    return {
        **beside,
        "state_dict": {
            name: value.float() if value.dtype == torch.float16 else value for name, value in state.items()
        },
        CONFIG_KEY: config,
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "global_step": 0,
    }
