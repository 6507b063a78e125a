"""The part of a run that a checkpoint decides: the arguments that its model's classes declare in
`fixed_by_checkpoint`.
"""

import importlib
from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from dfm_lightning.errors import UserError
from dfm_lightning.weights_file import CONFIG_KEY


class EmbedConfig(Callback):
    """Store the run's config in every checkpoint.

    Args:
        config: all settings, resolved; primitives only, so that the checkpoint loads with weights_only.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """See `Callback`."""
        checkpoint[CONFIG_KEY] = self.config


def architecture_of(config: dict[str, Any], used: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a stored config that decides a model's architecture, to lay over the current config.

    It consists of the model's arguments that its class fixes and, for parts that are not fixed as a whole, the
    arguments that the part's class fixes, if the current config has a part of the same class. Settings missing
    from the stored config come from the current one, if its part is of the same class; so do those that the part's
    class leaves to each run (`decided_by_run`). A class in the current config that is derived from the stored one
    counts as the same, and is kept: scores or pictures can thus be added to a model after training.
    """
    model = config.get("model", {})
    arguments = model.get("init_args", {})
    current = used.get("model", {}).get("init_args", {})
    if model and not isinstance(_imported(model.get("class_path", "")), type):
        raise UserError(f"the checkpoint's model is a {model.get('class_path')}, which cannot be imported here")
    fixed = fixed_by(model.get("class_path"))
    kept = {name: arguments[name] for name in arguments if name in fixed}
    for name, part in arguments.items():
        if name in fixed or not isinstance(part, dict) or "class_path" not in part:
            continue
        of_part = {n: v for n, v in part.get("init_args", {}).items() if n in fixed_by(part["class_path"])}
        used_class = (current.get(name) or {}).get("class_path")
        if of_part and _is_same(part["class_path"], used_class):
            kept[name] = {"class_path": used_class, "init_args": of_part}
    if not kept:
        return {}
    laid = {name: _laid_over(part, current.get(name)) for name, part in kept.items()}
    used_model = used.get("model", {}).get("class_path")
    class_path = used_model if _is_same(model["class_path"], used_model) else model["class_path"]
    return {"model": {"class_path": class_path, "init_args": laid}}


def fixed_by(class_path: str | None) -> frozenset[str]:
    """List the arguments that a class and its bases declare to be fixed by a checkpoint."""
    return _declared(class_path, "fixed_by_checkpoint")


def _declared(class_path: str | None, name: str) -> frozenset[str]:
    """List the arguments that a class and its bases declare under a name."""
    kind = _imported(class_path) if class_path else None
    if not isinstance(kind, type):
        return frozenset()
    return frozenset().union(*(vars(cls).get(name, ()) for cls in kind.__mro__))


def _laid_over(part: Any, used: Any) -> Any:
    """Complete a part, and its own parts, with the current settings that it lacks."""
    if (
        not isinstance(part, dict)
        or not isinstance(used, dict)
        or not _is_same(part.get("class_path"), used.get("class_path"))
    ):
        return part
    both = {**used, **part}
    if "class_path" in used:
        both["class_path"] = used["class_path"]
        run, now = _declared(used["class_path"], "decided_by_run"), used.get("init_args") or {}
        if run & now.keys():
            both["init_args"] = {**(part.get("init_args") or {}), **{name: now[name] for name in run & now.keys()}}
    return {name: _laid_over(both[name], used[name]) if name in used else both[name] for name in both}


def _is_same(stored: str | None, used: str | None) -> bool:
    """Tell whether two paths name the same class, or the second one a class derived from the first."""
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
    except (ImportError, ValueError):  # of another program, or of a module that no longer exists
        return None


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """List the settings that changed, as "name: before → after"."""
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
