"""A resumed training goes on with the optimizer's settings that are given now."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim.lr_scheduler import LambdaLR

from dfm_lightning.training.notices import say

# Not settings: what the groups hold, and what the schedule makes of the rate.
_STATE = ("params", "param_names", "lr")


class OptimizerAsGiven(Callback):
    """Gives the optimizer of a resumed training the learning rate, betas and so on of the config.

    A checkpoint holds those of the training that wrote it, and Lightning would continue with them. The schedule
    goes on at the step where training stopped, along the course that is given now.
    """

    def __init__(self) -> None:
        self._groups: list[list[dict[str, Any]]] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember what is given, before the checkpoint is restored."""
        self._groups = [[dict(group) for group in optimizer.param_groups] for optimizer in trainer.optimizers]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        if trainer.ckpt_path is None:
            return
        changes: dict[str, None] = {}
        for optimizer, groups in zip(trainer.optimizers, self._groups, strict=True):
            for group, given in zip(optimizer.param_groups, groups, strict=True):
                changes |= dict.fromkeys(_give(group, given))
        for config in trainer.lr_scheduler_configs:
            _go_on(config.scheduler)
        if changes:
            say(f"The optimizer's settings are those given now, not the checkpoint's: {', '.join(changes)}")


def _give(group: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """Give a group of parameters its settings; the changes in words."""
    before, after = group.get("initial_lr", group["lr"]), given.get("initial_lr", given["lr"])
    changes = [f"learning rate: {before} → {after}"] if before != after else []
    if before != after:
        # What the schedule has made of the rate so far, it makes of the one given now.
        group["lr"] = group["lr"] * (after / before) if before else after
    for name, value in given.items():
        if name in _STATE or group.get(name) == value:
            continue
        if name != "initial_lr":
            changes.append(f"{name}: {group.get(name)} → {value}")
        group[name] = value
    return changes


def _go_on(scheduler: Any) -> None:
    """Put a schedule at its step; one that is no function of the step goes on from the rates of the groups."""
    if not hasattr(scheduler, "base_lrs"):
        return
    groups = scheduler.optimizer.param_groups
    scheduler.base_lrs = [group["initial_lr"] for group in groups]
    if isinstance(scheduler, LambdaLR):
        for group, base, factor in zip(groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
            group["lr"] = base * factor(scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in groups]
