"""The optimizer of the paper, as one value that a config can hold."""

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import nn


class AdamWithWarmup:
    """Adam whose learning rate rises linearly over the first iterations, then stays or falls.

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
        self.learning_rate = learning_rate
        self.betas = betas
        self.warmup_steps = warmup_steps
        self.decay = decay

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
        """Adam over the given parameters."""
        return torch.optim.Adam(parameters, lr=self.learning_rate, betas=self.betas)

    def rate_factor(self, step: int, total_steps: Callable[[], float]) -> float:
        """The factor on the learning rate at an iteration, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.decay == "none" or step == self.warmup_steps or math.isinf(total_steps()):
            return 1.0
        progress = (step - self.warmup_steps) / max(1.0, total_steps() - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def scheduler(
        self, optimizer: torch.optim.Optimizer, total_steps: Callable[[], float]
    ) -> torch.optim.lr_scheduler.LambdaLR:
        """The schedule, to be advanced once an iteration; `total_steps` is first called in the second one."""
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate_factor(step, total_steps))
