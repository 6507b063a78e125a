import numpy as np
import torch

from dfm_lightning.forward_models.ray_sampling import (
    coarse_distances,
    importance_distances,
    jittered,
    jittered_between_ends,
)

LIKE = torch.zeros((), dtype=torch.float64)


def test_coarse_points_are_equally_spaced_in_distance_or_its_inverse() -> None:
    torch.testing.assert_close(coarse_distances(1.0, 4.0, 4, "distance", LIKE).tolist(), [1.0, 2.0, 3.0, 4.0])
    inverse = coarse_distances(1.0, 4.0, 4, "inverse_distance", LIKE)
    torch.testing.assert_close((1 / inverse).tolist(), [1.0, 0.75, 0.5, 0.25])


def test_jitter_stays_in_its_stratum_and_fills_it() -> None:
    torch.manual_seed(0)
    distances = torch.tensor([1.0, 2, 4]).expand(5000, 3)
    moved = jittered(distances)
    torch.testing.assert_close(moved.min(dim=0).values, torch.tensor([1.0, 1.5, 3]), atol=0.01, rtol=0)
    torch.testing.assert_close(moved.max(dim=0).values, torch.tensor([1.5, 3, 4]), atol=0.01, rtol=0)


def test_the_ends_stay_and_the_points_between_them_move() -> None:
    distances = torch.tensor([1.0, 2, 4, 5, 7]).expand(5000, 5)
    moved = jittered_between_ends(distances)
    assert torch.equal(moved[:, [0, 3, 4]], distances[:, [0, 3, 4]])
    torch.testing.assert_close(moved.min(dim=0).values[1:3], torch.tensor([1.5, 3]), atol=0.01, rtol=0)
    torch.testing.assert_close(moved.max(dim=0).values[1:3], torch.tensor([3, 4.5]), atol=0.01, rtol=0)


def test_random_importance_points_have_the_ends_of_those_that_are_not_random() -> None:
    torch.manual_seed(0)
    distances, weights = torch.rand(3, 9).cumsum(1), torch.rand(3, 9)
    drawn, fixed = (importance_distances(distances, weights, 6, random) for random in (True, False))
    assert torch.equal(drawn[:, [0, -1]], fixed[:, [0, -1]])
    assert not torch.isclose(drawn[:, 1:-1], fixed[:, 1:-1]).any()


def test_importance_points_are_quantiles_of_the_piecewise_constant_density() -> None:
    torch.manual_seed(0)
    distances = torch.rand(3, 9, dtype=torch.float64).cumsum(1)
    weights = torch.rand(3, 9, dtype=torch.float64)
    found = importance_distances(distances, weights, 6, random=False)
    for row in range(3):
        z, mass = distances[row].numpy(), weights[row, 1:-1].numpy() + 1e-5
        cumulative = np.concatenate([[0], np.cumsum(mass / mass.sum())])
        expected = np.interp(np.linspace(0, 1, 6), cumulative, (z[1:] + z[:-1]) / 2)
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-12)


def test_random_importance_points_follow_the_weights() -> None:
    torch.manual_seed(0)
    distances = torch.arange(5.0)[None]
    weights = torch.tensor([[9.0, 1, 0, 3, 9]])
    found = importance_distances(distances, weights, 20_000, random=True)[0]
    # Borders 0.5, 1.5, 2.5, 3.5 with mass 1, 0, 3; the ends count for nothing.
    shares = torch.histc(found, bins=3, min=0.5, max=3.5) / len(found)
    torch.testing.assert_close(shares, torch.tensor([0.25, 0, 0.75]), atol=0.01, rtol=0)


def test_importance_points_carry_no_gradient() -> None:
    weights = torch.rand(1, 5, requires_grad=True)
    assert not importance_distances(torch.arange(5.0)[None], weights, 3, random=True).requires_grad
