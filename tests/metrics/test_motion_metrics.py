"""End-point errors and directions on flows worked out by hand; error bars against a simulation."""

import pytest
import torch

from dfm_lightning.metrics.motion import UNDECIDED, direction_shares, end_point_error, sampled_directions


def test_end_point_error_is_the_mean_distance() -> None:
    truth = torch.zeros(2, 2, 2)
    flows = torch.zeros(2, 2, 2, 2)
    flows[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    flows[1] = 1.0
    assert end_point_error(flows, truth).tolist() == pytest.approx([5 / 4, 2**0.5])


def test_directions_by_the_mean_flow_of_the_shape() -> None:
    moving = torch.zeros(4, 4, dtype=torch.bool)
    moving[1:3, 1:3] = True
    truth = torch.zeros(2, 4, 4)
    truth[0, moving] = -4.0
    directions = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    ways = [(3.0, 0.5), (-2.1, 0.0), (-1.9, 0.0), (0.5, 8.0), (0.0, -5.0)]
    flows = 100 * torch.ones(len(ways), 2, 4, 4)  # what is around the shape does not matter
    for flow, (x, y) in zip(flows, ways, strict=True):
        flow[0, moving], flow[1, moving] = x, y
    found = sampled_directions(flows, moving, truth, directions)
    assert found.tolist() == [0, 1, UNDECIDED, 2, UNDECIDED]


def test_shares_and_their_error_bars() -> None:
    share = direction_shares(torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]]), 0)
    assert share.mean == pytest.approx(3 / 8)
    assert (share.least, share.greatest) == (0.25, 0.5)
    one = direction_shares(torch.tensor([[0, 0, 1, -1]]), 0)
    assert one.standard_error == pytest.approx((0.5 * 0.5 / 4) ** 0.5)
    # Images that lean one way or the other: the error is that of the images, not of single samples.
    torch.manual_seed(0)
    leaning = torch.rand(400, 20, 1)
    draws = (torch.rand(400, 20, 50) < leaning).long()
    found = [direction_shares(each, 1) for each in draws]
    means = torch.tensor([share.mean for share in found])
    errors = torch.tensor([share.standard_error for share in found])
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(means.std()), rel=0.15)
