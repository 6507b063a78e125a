"""Check, at the first training step, for faults of a custom problem that would keep it from learning."""

from typing import Any

import torch
from torch import Tensor, nn

from dfm_lightning.errors import UserError
from dfm_lightning.types import Batch, named_tensors


def check_trainable(model: nn.Module) -> None:
    """Raise `UserError` if a model has no trainable parameter."""
    parameters = list(model.parameters())
    if any(parameter.requires_grad for parameter in parameters):
        return
    reason = (
        "all have requires_grad false" if parameters else "it has none: is the network an attribute of its module?"
    )
    raise UserError(f"the model has no parameter to train; {reason}")


def check_target_size(size: tuple[int, ...], batch: Batch) -> None:
    """Raise `UserError` if sampled targets would have another shape (c, h, w) than those trained on."""
    given = tuple(batch.target.observation.shape[2:])
    if tuple(size) == given:
        return
    context = tuple(batch.context.observation.shape[2:])
    raise UserError(
        f"target_size of the forward model says that targets have shape {tuple(size)} (channels, height, width), "
        f"but those of the data have {given}: let the forward model's target_size(context) return {given}"
        + (f" (by default it is the context's, {context})" if context == tuple(size) else "")
    )


def check_differentiable(denoiser: nn.Module, signal: Any, observation: Tensor) -> None:
    """Raise `UserError` if no gradient flows from the observation to a denoiser with trainable parameters.

    Args:
        denoiser: has predicted the signal.
        signal: of any kind; only tensors in it are inspected.
        observation: the forward model's output.
    """
    if observation.requires_grad or not any(parameter.requires_grad for parameter in denoiser.parameters()):
        return
    tensors = [tensor for _, tensor in named_tensors(signal, "signal")]
    if tensors and not any(tensor.requires_grad for tensor in tensors):
        raise UserError(
            "the denoiser's signal has no gradient, so nothing would be trained: its forward detaches it, "
            "computes it under no_grad, or rounds it"
        )
    raise UserError(
        "the forward model's observation has no gradient with respect to the signal, so nothing would be trained: "
        "its forward detaches the signal, computes under no_grad or in another library, or rounds"
    )


def check_first_numbers(signal: Any, observation: Tensor) -> None:
    """Raise `UserError` if an untrained model's signal or observation is not finite."""
    for name, tensor in named_tensors(signal, "signal"):
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"the denoiser's signal at the first step is infinite or not a number ({name})")
    if not bool(torch.isfinite(observation).all()):
        raise UserError(
            "the forward model's observation at the first step is infinite or not a number, though the signal is "
            "finite: look for a division by zero, a logarithm or a root in its forward"
        )
