"""Make a resumed training use the optimizer's current settings."""

import inspect
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim.lr_scheduler import LambdaLR

from dfm_lightning.errors import UserError
from dfm_lightning.training.notices import say
from dfm_lightning.wording import counted

# Entries of a group that are no settings: its content, and the rate, which the schedule changes.
_STATE = ("params", "param_names", "lr")
# Entries that schedules add to the groups, and the last one `AdamWithLateParts`.
_ADDED = {
    *("initial_lr", "max_lr", "min_lr", "swa_lr", "max_momentum", "base_momentum"),
    "begins_with_first_gradient",
}
_ANEW = "--initial_weights instead of --ckpt_path"
# The position of any schedule: what remains of the state of another kind.
_POSITION = ("last_epoch", "_step_count")


class OptimizerAsGiven(Callback):
    """Give the optimizer of a resumed training the config's learning rate, betas and so on.

    Lightning would continue with those in the checkpoint. The schedule continues at the step where training
    stopped, along its current course. The state of another kind of optimizer is refused. From the state of another
    kind of schedule, only the position is taken.
    """

    def __init__(self) -> None:
        self._checkpoint: dict[str, Any] = {}
        self._groups: list[list[dict[str, Any]]] = []
        self._courses: list[dict[str, Any]] = []
        self._moved: set[int] = set()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the state that is about to be restored."""
        self._checkpoint = checkpoint

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the current settings before the checkpoint is restored.

        Raises:
            UserError: the checkpoint holds the state of an optimizer of another kind.
        """
        self._groups = [[dict(group) for group in optimizer.param_groups] for optimizer in trainer.optimizers]
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        self._courses = [_course(scheduler) for scheduler in schedulers]
        checkpoint, self._checkpoint = self._checkpoint, {}
        for optimizer, stored in zip(trainer.optimizers, checkpoint.get("optimizer_states", ()), strict=False):
            _check_kind(optimizer, stored)
        states = checkpoint.get("lr_schedulers", [])
        for place, (scheduler, stored) in enumerate(zip(schedulers, states, strict=False)):
            if stored.keys() != scheduler.state_dict().keys():
                self._moved.add(place)
                states[place] = _moved(scheduler.state_dict(), stored)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        if trainer.ckpt_path is None:
            return
        changes: dict[str, None] = {}
        for optimizer, groups in zip(trainer.optimizers, self._groups, strict=True):
            for group, given in zip(optimizer.param_groups, groups, strict=True):
                changes |= dict.fromkeys(_give(group, given))
        for place, (config, course) in enumerate(zip(trainer.lr_scheduler_configs, self._courses, strict=True)):
            changes |= dict.fromkeys(_steer(config.scheduler, course))
            _go_on(config.scheduler, another_course=bool(changes) or place in self._moved)
        if changes:
            say(f"The optimizer has the settings given now, not the checkpoint's: {', '.join(changes)}")


def _give(group: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """Apply settings to a group of parameters; describe the changes."""
    before, after = group.get("initial_lr", group["lr"]), given.get("initial_lr", given["lr"])
    changes = [f"learning rate: {before} → {after}"] if before != after else []
    if before != after:
        # The schedule's effect on the rate so far is applied to the new rate.
        group["lr"] = group["lr"] * (after / before) if before else after
    for name, value in given.items():
        if name in _STATE or group.get(name) == value:
            continue
        if name != "initial_lr":
            changes.append(f"{name}: {group.get(name)} → {value}")
        group[name] = value
    return changes


def _check_kind(optimizer: Any, stored: dict[str, Any]) -> None:
    """Refuse the state of an optimizer with other settings, or of other parameters.

    A state does not say which class it is of. Classes that keep the same state, such as Adam and AdamW, have
    settings of the same names; others do not.
    """
    groups, held = optimizer.param_groups, stored.get("param_groups", ())
    for group, before in zip(groups, held, strict=False):
        differing = sorted((set(group) ^ set(before)) - _ADDED - {*_STATE})
        if differing:
            raise UserError(
                f"the checkpoint's optimizer is no {type(optimizer).__name__}: only one of them has the settings "
                f"{', '.join(differing)}. Continue with the optimizer it was trained with, or begin anew with its "
                f"weights: {_ANEW}"
            )
    sizes, sizes_before = ([len(group["params"]) for group in each] for each in (groups, held))
    if held and sizes != sizes_before:
        raise UserError(
            f"the checkpoint's optimizer is of {counted(sum(sizes_before), 'parameter')} (by group: "
            f"{sizes_before}), this one of {sum(sizes)} ({sizes}): train the parts that it trained, or begin anew "
            f"with its weights: {_ANEW}"
        )


def _course(scheduler: Any) -> dict[str, Any]:
    """Return the settings of a schedule: its constructor arguments that it stores under the same name."""
    names = set(inspect.signature(type(scheduler)).parameters) - {"optimizer", "last_epoch"}
    return {name: value for name, value in vars(scheduler).items() if name in names and not callable(value)}


def _steer(scheduler: Any, course: dict[str, Any]) -> list[str]:
    """Apply the settings of its course to a schedule; describe the changes."""
    held = vars(scheduler)
    changes = [
        f"scheduler.{name}: {held[name]} → {value}" for name, value in course.items() if held[name] != value
    ]
    held.update(course)
    return changes


def _moved(given: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """Return a fresh schedule's state at the position of another kind of schedule."""
    return {**given, **{name: stored[name] for name in _POSITION if name in stored and name in given}}


def _go_on(scheduler: Any, another_course: bool) -> None:
    """Move a schedule to its step if its rates are a function of the step; any other continues from the groups'.

    On the same course as before, the groups have its rates already, to the last digit.
    """
    if not hasattr(scheduler, "base_lrs"):
        return
    groups = scheduler.optimizer.param_groups
    scheduler.base_lrs = [group["initial_lr"] for group in groups]
    rates = [group["lr"] for group in groups]
    if isinstance(scheduler, LambdaLR):
        factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
        rates = [base * factor for base, factor in zip(scheduler.base_lrs, factors, strict=True)]
    elif another_course and hasattr(scheduler, "_get_closed_form_lr"):
        rates = scheduler._get_closed_form_lr()
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate
    scheduler._last_lr = rates
