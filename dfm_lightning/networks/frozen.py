"""Networks that are used but never trained."""

from typing import Any, Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class Frozen(Generic[Network]):
    """A holder of a network in evaluation mode, without gradients of its weights, hidden from its owner.

    It is not an `nn.Module`: the network is part of no checkpoint, no moving average and no list of parameters,
    and `train()` does not reach it. Copies share the network, which never changes.

    Args:
        network: the network to freeze.
    """

    def __init__(self, network: Network) -> None:
        self.network = network.eval().requires_grad_(False)

    def __call__(self, *args: Any) -> Any:
        """Run the network; gradients flow through it to its inputs."""
        return self.network(*args)

    def to(self, device: torch.device) -> "Frozen[Network]":
        """Move the network to a device, and return it."""
        self.network.to(device)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Frozen[Network]":
        return self
