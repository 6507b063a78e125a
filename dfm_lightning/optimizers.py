"""Optimizers and schedules of the learning rate, as one value that a config can hold."""

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
    """The factor on the learning rate in a linear warm-up, at an iteration counted from 0; 1 after it."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


class AdamWithLateParts(torch.optim.Adam):
    """Adam for models of which a part may begin to train later than the others, or rest for a while.

    A parameter's moments, its count of iterations and its warm-up begin with its first gradient that is not zero
    throughout. Before that it is left alone, whether its gradient is absent, as where one process trains, or zero,
    as where several do, which have to give each other one of every parameter. So both do the same, and what begins
    late does not begin at the full rate, with moments of a single iteration behind it. Once begun, a parameter
    without a gradient has one of zero, which is what the loss's is: the moments decay.

    Args:
        parameters: what is to be trained.
        lr: the learning rate after the warm-up.
        betas: Adam's running-average coefficients.
        warmup_steps: iterations in which the rate of a parameter rises to that of its group, counted from the
            first one that changed it. Those that begin with the group follow its schedule alone.
    """

    # In the groups of a checkpoint written by this class. Without it, several processes counted idle iterations.
    _MARK = "begins_with_first_gradient"

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], warmup_steps: int
    ) -> None:
        self.warmup_steps = warmup_steps
        self._risen = False
        super().__init__(parameters, lr=lr, betas=betas)
        self._mark()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where another optimizer stopped; what it only counted idle iterations of begins anew."""
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
        """One iteration; the closure, if any, computes the loss and its gradients."""
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
        """Take zero gradients from parameters that have not begun, and give them to those that rest."""
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
        # (In one transfer: on a GPU each would wait for all that is queued.)
        begins = torch.stack([parameter.grad.any().to(fresh[0].device) for parameter in fresh]).tolist()
        for parameter, begun in zip(fresh, begins, strict=True):
            if not begun:
                parameter.grad = None

    def _by_rate(self, groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The groups, divided so that all parameters of one have the same rate."""
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
        """Make the schedule of the learning rate and say when it advances, as Lightning expects it; None for none.

        `total_steps` gives the number of iterations of the whole training. It must not be called before the first
        of them.
        """


class AdamWithWarmup(OptimizerSettings):
    """Adam whose learning rate rises linearly over the first iterations, then stays or falls.

    A part of the model that begins to train later has a rise of its own (see `AdamWithLateParts`).

    Args:
        learning_rate: the rate after warm-up. The paper has 2e-5 for every task.
        betas: Adam's running-average coefficients.
        warmup_steps: iterations of linear rise; 0 for none.
        decay: "none" keeps the rate, "cosine" lowers it to 0 along half a cosine until the last iteration.
    """

    def __init__(
        self,
        learning_rate: float = 2e-5,
        betas: tuple[float, float] = (0.9, 0.99),
        warmup_steps: int = 1000,
        decay: Literal["none", "cosine"] = "none",
    ) -> None:
        check_at_least(0, learning_rate=learning_rate)
        check_below_one(betas=betas)
        check_at_least(0, warmup_steps=warmup_steps)
        self.learning_rate = learning_rate
        self.betas = betas
        self.warmup_steps = warmup_steps
        self.decay = decay

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> AdamWithLateParts:
        """Adam over the given parameters."""
        return AdamWithLateParts(parameters, self.learning_rate, self.betas, self.warmup_steps)

    def rate_factor(self, step: int, total_steps: Callable[[], float]) -> float:
        """The factor on the learning rate at an iteration, counted from 0."""
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
        """The schedule, to be advanced once an iteration; `total_steps` is first called in the second one."""
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate_factor(step, total_steps))


class TorchOptimizer(OptimizerSettings):
    """Any optimizer of PyTorch, or of its kind, and any schedule.

    Args:
        optimizer: makes the optimizer from the parameters, as a class of `torch.optim` does. In a config, its
            class_path and init_args, without the parameters.
        scheduler: makes the schedule from the optimizer, as a class of `torch.optim.lr_scheduler` does; null for
            a constant rate. One that watches a quantity has its name in `monitor`, such as "val/loss"
            (`lightning.pytorch.cli.ReduceLROnPlateau`).
        interval: whether the schedule advances after every iteration ("step") or every pass through the data
            ("epoch").
        frequency: it advances after so many of them.
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
                "ReduceLROnPlateau must know what to watch: take lightning.pytorch.cli.ReduceLROnPlateau and set "
                "its monitor, as in monitor: val/loss"
            )
        schedule: LRSchedulerConfigType = {
            "scheduler": scheduler,
            "interval": self.interval,
            "frequency": self.frequency,
        }
        # Before the first validation there is nothing to watch yet.
        return schedule if monitor is None else {**schedule, "monitor": monitor, "strict": False}


# What a model's `optimizer` may be: settings, or what makes an optimizer with a constant rate.
OptimizerChoice = OptimizerSettings | OptimizerCallable


def settings_of(choice: OptimizerChoice | None) -> OptimizerSettings:
    """Take settings as they are, a class as that optimizer at a constant rate, None as the paper's."""
    if choice is None:
        return AdamWithWarmup()
    return choice if isinstance(choice, OptimizerSettings) else TorchOptimizer(choice)
