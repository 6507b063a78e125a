"""Optimizers and learning-rate schedules, combined into one value for a config."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import LRSchedulerConfigType
from torch import nn

from dfm_lightning.errors import UserError
from dfm_lightning.optimizers.late_parts import AdamWithLateParts, rise
from dfm_lightning.ranges import check_at_least, check_below_one


class OptimizerSettings(ABC):
    """An optimizer and its schedule, before there are parameters to train."""

    @abstractmethod
    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Make the optimizer of the given parameters."""

    @abstractmethod
    def schedule(
        self, optimizer: torch.optim.Optimizer, total_steps: Callable[[], float]
    ) -> LRSchedulerConfigType | None:
        """Make the learning-rate schedule and its interval, as Lightning expects it; None for none.

        `total_steps` returns the number of iterations of the whole training. It must not be called before the
        first of them.
        """


class AdamWithWarmup(OptimizerSettings):
    """Adam whose learning rate rises linearly over the first iterations, then stays or falls.

    A part of the model that starts to train later has its own warm-up (see `AdamWithLateParts`).

    Args:
        learning_rate: the rate after warm-up. The paper uses 2e-5 for every task.
        betas: Adam's running-average coefficients.
        warmup_steps: iterations of linear rise; 0 for none.
        decay: "none" keeps the rate, "cosine" lowers it to 0 along half a cosine until the last iteration.
        foreach: whether PyTorch updates all parameters together in a few operations, which is quicker on a GPU and
            takes as much memory again as the parameters, for the moment; if null, it does so on a GPU.
    """

    def __init__(
        self,
        learning_rate: float = 2e-5,
        betas: tuple[float, float] = (0.9, 0.99),
        warmup_steps: int = 1000,
        decay: Literal["none", "cosine"] = "none",
        foreach: bool | None = None,
    ) -> None:
        check_at_least(0, learning_rate=learning_rate)
        check_below_one(betas=betas)
        check_at_least(0, warmup_steps=warmup_steps)
        self.learning_rate = learning_rate
        self.betas = betas
        self.warmup_steps = warmup_steps
        self.decay = decay
        self.foreach = foreach

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> AdamWithLateParts:
        """Make Adam for the given parameters."""
        return AdamWithLateParts(parameters, self.learning_rate, self.betas, self.warmup_steps, self.foreach)

    def rate_factor(self, step: int, total_steps: Callable[[], float]) -> float:
        """Return the factor on the learning rate at an iteration, counted from 0."""
        if step < self.warmup_steps:
            return rise(step, self.warmup_steps)
        if self.decay == "none" or step == self.warmup_steps or math.isinf(total_steps()):
            return 1.0
        progress = (step - self.warmup_steps) / max(1.0, total_steps() - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def schedule(
        self, optimizer: torch.optim.Optimizer, total_steps: Callable[[], float]
    ) -> LRSchedulerConfigType:
        """See `OptimizerSettings`."""
        return {"scheduler": self.scheduler(optimizer, total_steps), "interval": "step"}

    def scheduler(
        self, optimizer: torch.optim.Optimizer, total_steps: Callable[[], float]
    ) -> torch.optim.lr_scheduler.LambdaLR:
        """Make the schedule, to be advanced once an iteration; `total_steps` is first called in the second one."""
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate_factor(step, total_steps))


class TorchOptimizer(OptimizerSettings):
    """Any PyTorch-style optimizer and schedule.

    Args:
        optimizer: makes the optimizer from the parameters, as a class of `torch.optim` does. In a config, its
            class_path and init_args, without the parameters.
        scheduler: makes the schedule from the optimizer, as a class of `torch.optim.lr_scheduler` does; null for a
            constant rate. One that watches a quantity names it in `monitor`, such as "val/loss"
            (`lightning.pytorch.cli.ReduceLROnPlateau`).
        interval: whether the schedule advances after every iteration ("step") or every pass through the data
            ("epoch").
        frequency: number of intervals between advances.
    """

    def __init__(
        self,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        interval: Literal["step", "epoch"] = "step",
        frequency: int = 1,
    ) -> None:
        check_at_least(1, frequency=frequency)
        self._optimizer = optimizer
        self._scheduler = scheduler
        self.interval = interval
        self.frequency = frequency

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """See `OptimizerSettings`."""
        try:
            return self._optimizer(parameters)
        except (TypeError, ValueError) as error:
            raise UserError(f"the optimizer cannot be made: {error}") from error

    def schedule(
        self, optimizer: torch.optim.Optimizer, total_steps: Callable[[], float]
    ) -> LRSchedulerConfigType | None:
        """See `OptimizerSettings`."""
        if self._scheduler is None:
            return None
        try:
            scheduler = self._scheduler(optimizer)
        except (TypeError, ValueError) as error:
            raise UserError(f"the scheduler cannot be made: {error}") from error
        monitor = getattr(scheduler, "monitor", None)
        if monitor is None and isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise UserError(
                "ReduceLROnPlateau needs a value to watch: use lightning.pytorch.cli.ReduceLROnPlateau and set "
                "its monitor, as in monitor: val/loss"
            )
        schedule: LRSchedulerConfigType = {
            "scheduler": scheduler,
            "interval": self.interval,
            "frequency": self.frequency,
        }
        # Before the first validation there is nothing to watch yet.
        return schedule if monitor is None else {**schedule, "monitor": monitor, "strict": False}


# The values of a model's `optimizer`: settings, or a class of optimizers for a constant rate.
OptimizerChoice = OptimizerSettings | OptimizerCallable


def settings_of(choice: OptimizerChoice | None) -> OptimizerSettings:
    """Convert to settings: pass them on, wrap a class at a constant rate, replace None by the paper's."""
    if choice is None:
        return AdamWithWarmup()
    return choice if isinstance(choice, OptimizerSettings) else TorchOptimizer(choice)
