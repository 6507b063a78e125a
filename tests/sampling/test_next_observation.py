"""What to observe next: entropies against direct sums and exact ones; a choice that pays where all is known."""

import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dfm_lightning.sampling import disagreement, ranked

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "closed_form"))


def test_it_is_the_sum_over_pairs() -> None:
    observations = torch.randn(5, 3, 2, 4, generator=torch.Generator().manual_seed(0)).double()
    found = disagreement(observations, 0.7)
    for candidate in range(3):
        total = 0.0
        for i in range(5):
            kernel = 0.0
            for j in range(5):
                distance = ((observations[i, candidate] - observations[j, candidate]) ** 2).sum().item()
                kernel += math.exp(-distance / (2 * 0.7**2)) / 5
            total -= math.log(kernel) / 5
        assert found[candidate].item() == pytest.approx(total, rel=1e-9)


def test_it_grows_with_the_entropy_of_normal_observations() -> None:
    # Of many particles with deviation d, smoothed by s: differences of entropies are ln √(d² + s²), nearly.
    generator = torch.Generator().manual_seed(0)
    deviations = torch.tensor([0.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    particles = torch.randn(3000, 1, generator=generator, dtype=torch.float64) * deviations
    found = disagreement(particles[..., None], 0.25).numpy()
    assert found[0] == pytest.approx(0, abs=1e-9)
    expected = np.log(np.sqrt(deviations[1:].numpy() ** 2 + 0.25**2))
    np.testing.assert_allclose(np.diff(found[1:]), np.diff(expected), atol=0.1)


def test_the_order_is_that_of_disagreement_and_ends_are_known() -> None:
    observations = torch.zeros(4, 3, 1)
    observations[:, 1] = torch.tensor([[0.0], [100.0], [200.0], [300.0]])
    observations[:2, 2] = 50.0
    assert ranked(observations).tolist() == [1, 2, 0]
    assert disagreement(observations, 0.1)[1].item() == pytest.approx(math.log(4))
    assert disagreement(torch.zeros(3, 2, 1)).tolist() == [0, 0]


def test_one_sample_is_too_few_and_deviations_are_positive() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        disagreement(torch.zeros(1, 2, 1))
    with pytest.raises(ValueError, match="deviation"):
        disagreement(torch.zeros(2, 2, 1), 0.0)


def test_chosen_observations_leave_less_error_than_random_ones() -> None:
    found = importlib.import_module("next_observation").compared(60, 3)
    means = {name: np.mean(values, axis=0) for name, values in found.items()}
    assert means["chosen"][0] == pytest.approx(means["random"][0])
    for place in (1, 2):
        assert means["chosen"][place] < 0.9 * means["random"][place]
