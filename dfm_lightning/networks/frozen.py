"""Networks that are used and never trained."""

from typing import Any, Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class Frozen(Generic[Network]):
    """Holds a network in evaluation mode, without gradients of its weights, and out of whatever holds this.

    Not an `nn.Module`: a network in it is part of no checkpoint, no moving average and no list of parameters, and
    `train()` does not reach it. A copy shares the network, which never changes.

    Args:
        network: what is frozen.
    """

    def __init__(self, network: Network) -> None:
        self.network = network.eval().requires_grad_(False)

    def __call__(self, *args: Any) -> Any:
        """Run the network; gradients flow through it to what it is given."""
        return self.network(*args)

    def to(self, device: torch.device) -> "Frozen[Network]":
        """Move the network to a device, and give it back."""
        self.network.to(device)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Frozen[Network]":
        return self
