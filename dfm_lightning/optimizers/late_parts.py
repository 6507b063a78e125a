"""Adam for models whose parts begin to train at different times."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


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
        parameters: the parameters to train, or groups of them.
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
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
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
