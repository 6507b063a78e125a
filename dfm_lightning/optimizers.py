"""The optimizer of the paper, as one value that a config can hold."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

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


class AdamWithWarmup:
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

    def scheduler(
        self, optimizer: torch.optim.Optimizer, total_steps: Callable[[], float]
    ) -> torch.optim.lr_scheduler.LambdaLR:
        """The schedule, to be advanced once an iteration; `total_steps` is first called in the second one."""
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate_factor(step, total_steps))
