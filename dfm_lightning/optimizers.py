"""Optimizers and learning-rate schedules, combined into one value for a config."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import LRSchedulerConfigType
from torch import Tensor, nn

from dfm_lightning.errors import UserError
from dfm_lightning.ranges import check_at_least, check_below_one


def rise(step: int, warmup_steps: int) -> float:
    """Return the warm-up factor on the learning rate at an iteration counted from 0; 1 after warm-up."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


class AdamWithLateParts(torch.optim.Adam):
    """Adam for models in which a part may start to train later than the others, or rest for a while.

    A parameter's moments, its count of iterations and its warm-up begin with its first gradient that is not zero
    everywhere. Until then it is left alone, whether its gradient is absent, as with one process, or zero, as with
    several, which must exchange a gradient of every parameter. Both therefore behave alike, and a late part does
    not begin at the full rate with moments of a single iteration. After that, a missing gradient counts as zero,
    which is its true value: the moments decay.

    Args:
        parameters: the parameters to train.
        lr: the learning rate after the warm-up.
        betas: Adam's running-average coefficients.
        warmup_steps: iterations in which the rate of a parameter rises to that of its group, counted from the
            first one that changed it. Those that begin with the group follow its schedule alone.
        foreach: see `AdamWithWarmup`.
    """

    # In the groups of checkpoints written by this class. Older ones, from several processes, counted idle
    # iterations.
    _MARK = "begins_with_first_gradient"

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        warmup_steps: int,
        foreach: bool | None = None,
    ) -> None:
        self.warmup_steps = warmup_steps
        self._risen = False
        super().__init__(parameters, lr=lr, betas=betas, foreach=foreach)
        self._mark()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where another optimizer stopped; parameters with only idle iterations start afresh."""
        super().load_state_dict(state_dict)
        self._risen = False
        for group in self.param_groups:
            for parameter in [] if group.get(self._MARK) else group["params"]:
                state = self.state.get(parameter)
                if state and not (state["exp_avg"].any() or state["exp_avg_sq"].any()):
                    del self.state[parameter]
        self._mark()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform one iteration; the closure, if any, computes the loss and its gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._settle_gradients()
        groups = self.param_groups
        try:
            self.param_groups = list(self._by_rate(groups))
            super().step()
        finally:
            self.param_groups = groups
        return loss

    def _mark(self) -> None:
        for group in self.param_groups:
            group[self._MARK] = True

    def _settle_gradients(self) -> None:
        """Remove zero gradients of parameters that have not begun, and add them to those that rest."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        fresh = []
        for parameter in parameters:
            if not self.state.get(parameter):
                if parameter.grad is not None:
                    fresh.append(parameter)
            elif parameter.grad is None and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        if not fresh:
            return
        # (In one transfer: on a GPU each would wait for everything queued.)
        begins = torch.stack([parameter.grad.any().to(fresh[0].device) for parameter in fresh]).tolist()
        for parameter, begun in zip(fresh, begins, strict=True):
            if not begun:
                parameter.grad = None

    def _by_rate(self, groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Split the groups so that all parameters of one have the same rate."""
        if self._risen:
            yield from groups
            return
        self._risen = True
        for group in groups:
            peak = group.get("initial_lr", group["lr"])
            parts: dict[float, list[Tensor]] = {}
            for parameter in group["params"]:
                state = self.state.get(parameter)
                age = int(state["step"]) if state else 0
                self._risen &= age >= self.warmup_steps
                parts.setdefault(min(group["lr"], peak * rise(age, self.warmup_steps)), []).append(parameter)
            for rate, parameters in parts.items():
                yield {**group, "params": parameters, "lr": rate}


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
