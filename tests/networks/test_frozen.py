"""A frozen network stays as it is, and is no part of what holds it."""

import copy

import torch
from torch import nn

from dfm_lightning.networks.frozen import Frozen


class Holder(nn.Module):
    """Trains one layer and uses another."""

    def __init__(self) -> None:
        super().__init__()
        self.trained = nn.Linear(3, 3)
        self.used = Frozen(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).train())


def test_a_frozen_network_is_in_evaluation_and_out_of_its_holder() -> None:
    holder = Holder().train()
    assert not any(part.training for part in holder.used.network.modules())
    assert set(holder.state_dict()) == {"trained.weight", "trained.bias"}
    assert len(list(holder.parameters())) == 2
    assert copy.deepcopy(holder).used.network is holder.used.network
    values = torch.rand(2, 3, requires_grad=True)
    holder.used(values).sum().backward()
    weight = holder.used.network[0].weight
    torch.testing.assert_close(values.grad, weight.detach().sum(dim=0).expand(2, 3))
    assert weight.grad is None
