"""The parts of a checkpoint that later runs use: the config of the run that wrote it, and the weights."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule

from dfm_lightning.errors import UserError
from dfm_lightning.migrations import migrate_with_notice
from dfm_lightning.weights import check_usable
from dfm_lightning.weights_file import CONFIG_KEY, SUFFIX, read_weights_file


def stored_config(path: Path) -> dict[str, Any]:
    """Return the config in a checkpoint, all settings of its run as primitives; empty if it has none.

    Raises:
        UserError: there is no such file, or it is not a checkpoint.
    """
    return read_checkpoint(path).get(CONFIG_KEY, {})


def load_weights(model: LightningModule, path: Path, new_parts: bool = False) -> list[str]:
    """Give a model the weights of a checkpoint (the averaged ones, if training averaged them), and nothing else.

    Args:
        model: the model.
        path: the checkpoint.
        new_parts: let parts of the model that the checkpoint lacks keep the weights they have.

    Returns:
        The names of these parts: modules of which the checkpoint has nothing, or parameters.

    Raises:
        UserError: there is no such file, it is not a checkpoint, or its weights are not finite.
        RuntimeError: its weights do not fit the model.
    """
    content = read_checkpoint(path)
    model.on_load_checkpoint(content)  # a model may refuse a checkpoint
    given = content["state_dict"]
    own = model.state_dict()
    new = [name for name in own if name not in given] if new_parts else []
    model.load_state_dict({**given, **{name: own[name] for name in new}}, strict=model.strict_loading)
    check_usable(model, str(path))
    return _parts(new, given)


def _parts(missing: list[str], given: dict[str, Any]) -> list[str]:
    """Name what is missing by the largest modules that are missing as a whole."""
    known = {name.rsplit(".", depth)[0] for name in given for depth in range(name.count(".") + 1)}
    parts = []
    for name in missing:
        steps = name.split(".")
        heads = (".".join(steps[: length + 1]) for length in range(len(steps)))
        parts.append(next(head for head in heads if head not in known))
    return list(dict.fromkeys(parts))


def holds_weights_only(path: Path) -> bool:
    """Tell whether a checkpoint lacks an optimizer's state, as converted ones do, so that no training can continue
    from it.

    Raises:
        UserError: there is no such file, or it is not a checkpoint.
    """
    return "optimizer_states" not in read_checkpoint(path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, or a safetensors file of weights and config as a checkpoint without anything else.

    The config of an earlier version is upgraded; one line on stderr says what was changed.

    Raises:
        UserError: there is no such file, it is not a checkpoint, or a newer version of the program wrote it.
    """
    content = _read(path)
    if isinstance(content.get(CONFIG_KEY), dict):
        content[CONFIG_KEY] = migrate_with_notice(content[CONFIG_KEY], f"The config in {path}")
    return content


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "there is no such file"
        raise UserError(f"No checkpoint '{path}': {what}.")
    if path.suffix == SUFFIX:
        return read_weights_file(path)
    try:
        # Mapped: only the tensors that are needed leave the disk.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except PermissionError as error:
        raise UserError(f"The checkpoint '{path}' cannot be read: permission denied.") from error
    except Exception as error:  # what torch raises for a damaged file depends on the damage
        raise UserError(f"'{path}' is not a checkpoint: it is damaged, or another kind of file.") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise UserError(f"'{path}' is not a checkpoint of this program: it has no state_dict.")
    if not isinstance(content.get(CONFIG_KEY, {}), dict):
        raise UserError(f"'{path}' is not a checkpoint of this program: its {CONFIG_KEY} holds no settings.")
    return content
