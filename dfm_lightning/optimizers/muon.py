"""Muon: steps of equal size in all directions of a weight matrix."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.optimizers.late_parts import AdamWithLateParts, rise
from dfm_lightning.optimizers.settings import AdamWithWarmup

# Coefficients of the odd polynomial whose iterates bring singular values near to one (Jordan et al. 2024).
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
# The root mean square of Adam's steps in practice, in units of the rate (Liu et al. 2025, "Muon is scalable").
_SIZE = 0.2
_MOMENTUM = 0.95
# Weights with fewer outputs or inputs have next to no directions to tell apart.
_LEAST_SIDE = 4


def orthogonalised(matrix: Float[Tensor, "r c"]) -> Float[Tensor, "r c"]:
    """Replace the singular values of a matrix by numbers between 0.7 and 1.2, by Newton–Schulz iteration.

    Singular values below about a thousandth of the greatest stay smaller.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    wide = wide / wide.norm().clamp(min=torch.finfo(wide.dtype).tiny)
    first, third, fifth = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        squared = wide @ wide.mT
        wide = first * wide + (third * squared + fifth * squared @ squared) @ wide
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.mT


def _is_matrix(parameter: Tensor) -> bool:
    return parameter.ndim > 1 and min(parameter.flatten(1).shape) >= _LEAST_SIDE


class MuonWithLateParts(AdamWithLateParts):
    """Muon for weights of at least four outputs and inputs, Adam for all others (Jordan et al. 2024).

    A weight's gradients are averaged, with Nesterov's look ahead; the average, as a matrix of its outputs and all
    else, is orthogonalised (see `orthogonalised`), so that the step is as large along rare directions as along
    common ones. Steps are scaled to the size of Adam's, so that both take the same rates (Liu et al. 2025).
    Parts that begin late, or rest, are treated as in `AdamWithLateParts`.

    Args:
        parameters: the parameters to train.
        lr: the learning rate after the warm-up.
        betas: Adam's running-average coefficients.
        warmup_steps: see `AdamWithLateParts`.
        foreach: see `AdamWithWarmup`; of Adam's part.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        warmup_steps: int,
        foreach: bool | None = None,
    ) -> None:
        given = list(parameters)
        matrices = [parameter for parameter in given if _is_matrix(parameter)]
        others = [parameter for parameter in given if not _is_matrix(parameter)]
        groups: list[dict[str, Any]] = [{"params": matrices, "muon": True}, {"params": others, "muon": False}]
        super().__init__([group for group in groups if group["params"]], lr, betas, warmup_steps, foreach)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform one iteration; the closure, if any, computes the loss and its gradients."""
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["muon"]]
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["muon"]:
                peak = group.get("initial_lr", group["lr"])
                for parameter in group["params"]:
                    self._step_matrix(parameter, group["lr"], peak)
        return loss

    def _step_matrix(self, parameter: Tensor, rate: float, peak: float) -> None:
        """Move one weight."""
        state, gradient = self.state[parameter], parameter.grad
        if not state:
            if gradient is None or not bool(gradient.any()):
                return
            state["step"] = torch.zeros(())
            state["average"] = torch.zeros_like(parameter)
        elif gradient is None:
            gradient = torch.zeros_like(parameter)
        rate = min(rate, peak * rise(int(state["step"]), self.warmup_steps))
        state["step"] += 1
        average = state["average"].lerp_(gradient, 1 - _MOMENTUM)
        matrix = gradient.lerp(average, _MOMENTUM).flatten(1)
        size = _SIZE * max(matrix.shape) ** 0.5
        parameter.add_(orthogonalised(matrix).view_as(parameter), alpha=-rate * size)


class MuonWithWarmup(AdamWithWarmup):
    """Muon whose learning rate rises linearly over the first iterations, then stays or falls.

    It takes the rates that Adam takes; see `MuonWithLateParts`. An iteration costs a few products of each weight
    matrix with itself more: little where the network sees many points or pixels.

    Args:
        learning_rate: the rate after warm-up.
        betas: running-average coefficients of Adam, which trains biases and the like.
        warmup_steps: iterations of linear rise; 0 for none.
        decay: see `AdamWithWarmup`.
        foreach: see `AdamWithWarmup`; of Adam's part.
    """

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> MuonWithLateParts:
        """Make Muon for the given parameters."""
        return MuonWithLateParts(parameters, self.learning_rate, self.betas, self.warmup_steps, self.foreach)
