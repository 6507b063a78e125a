"""What a checkpoint decides about a run: the architecture of its model, and nothing else."""

import importlib
from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from dfm_lightning.weights_file import CONFIG_KEY

# The arguments of a model that decide which weights it has and what they mean.
ARCHITECTURE = ("denoiser", "process")
# Those of a forward model that decide what the weights mean: what its pixels are, what lies behind everything.
OBSERVATION = ("background", "corner_aligned")


class EmbedConfig(Callback):
    """Puts the config of the run into every checkpoint.

    Args:
        config: all settings, resolved; primitives only, so that the checkpoint loads with weights_only.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """See `Callback`."""
        checkpoint[CONFIG_KEY] = self.config


def architecture_of(config: dict[str, Any], used: dict[str, Any]) -> dict[str, Any]:
    """The part of a stored config that decides a model's architecture, as a config to lay over the one used.

    A forward model's conventions belong to it where the config used has a forward model of the same class. What
    the stored config leaves open of a part, the config used decides, if its part is of the same class. A class of
    the config used that is derived from the stored one counts as the same, and is kept: so scores or pictures can
    be added to a model after its training.
    """
    model = config.get("model", {})
    arguments = model.get("init_args", {})
    kept = {name: arguments[name] for name in ARCHITECTURE if name in arguments}
    current = used.get("model", {}).get("init_args", {})
    forward_model = arguments.get("forward_model") or {}
    observation = {
        name: value for name, value in forward_model.get("init_args", {}).items() if name in OBSERVATION
    }
    used_forward_model = (current.get("forward_model") or {}).get("class_path")
    if observation and _is_same(forward_model.get("class_path"), used_forward_model):
        kept["forward_model"] = {"class_path": used_forward_model, "init_args": observation}
    if not kept:
        return {}
    laid = {name: _laid_over(part, current.get(name)) for name, part in kept.items()}
    used_model = used.get("model", {}).get("class_path")
    class_path = used_model if _is_same(model["class_path"], used_model) else model["class_path"]
    return {"model": {"class_path": class_path, "init_args": laid}}


def _laid_over(part: Any, used: Any) -> Any:
    """A part with what it leaves open taken from the one used, and so on for the parts it consists of."""
    if (
        not isinstance(part, dict)
        or not isinstance(used, dict)
        or not _is_same(part.get("class_path"), used.get("class_path"))
    ):
        return part
    both = {**used, **part}
    if "class_path" in used:
        both["class_path"] = used["class_path"]
    return {name: _laid_over(both[name], used[name]) if name in used else both[name] for name in both}


def _is_same(stored: str | None, used: str | None) -> bool:
    """Whether two paths name the same class, or the second one a class derived from the first."""
    if stored == used:
        return True
    if stored is None or used is None:
        return False
    base, derived = _imported(stored), _imported(used)
    return isinstance(base, type) and isinstance(derived, type) and issubclass(derived, base)


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError):  # of another program, or of a module that is no longer there
        return None


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What the settings were and have become, as "name: before → after", for those that changed."""
    old, new = dict(_flat(before)), dict(_flat(after))
    return [
        f"{name.replace('.init_args', '')}: {old.get(name, 'unset')} → {value}"
        for name, value in new.items()
        if old.get(name, "unset") != value
    ]


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
