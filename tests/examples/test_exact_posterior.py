"""The example's mixture and its statistics, against brute force and scipy."""

import numpy as np
import pytest
import torch
from comparison import energy_test, ranks, uniformity
from mixture import GaussianMixture, three_clusters
from problem import observe_signals, random_axes
from scipy import stats

DRAWS = 20_000


@pytest.mark.parametrize("numbers", [1, 2])
def test_the_posterior_is_what_rejection_finds(numbers: int) -> None:
    torch.manual_seed(0)
    mixture = three_clusters()
    rows = random_axes(1)[:, :numbers]
    values = rows[0] @ mixture.sample(1)[0]
    prior = mixture.sample(4_000_000)
    # A thin slab around the observation; along the axes it blurs by less than the error of the estimate.
    accepted = prior[((prior @ rows[0].T - values).abs() < 0.02 * numbers**1.5).all(dim=1)]
    assert len(accepted) > 2000
    exact = mixture.sample_posterior(rows, values[None], DRAWS)[0]
    torch.testing.assert_close(exact @ rows[0].T, values.expand(DRAWS, -1), atol=1e-4, rtol=0)
    error = 5 / len(accepted) ** 0.5  # five standard errors, as no deviation exceeds 1
    assert (exact.mean(0) - accepted.mean(0)).abs().max() < error
    assert (exact.T.cov() - accepted.T.cov()).abs().max() < 2 * error
    assert (mixture.posterior_mean(rows, values[None])[0] - accepted.mean(0)).abs().max() < error
    # Shape, too: along another direction the two are samples of one distribution.
    direction = torch.linalg.svd(rows[0], full_matrices=True).Vh[-1]
    assert stats.ks_2samp((exact @ direction).numpy(), (accepted @ direction).numpy()).pvalue > 1e-3


def test_one_component_is_gaussian_conditioning() -> None:
    torch.manual_seed(1)
    factor, mean = torch.randn(3, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    mixture = GaussianMixture(torch.ones(1, dtype=torch.float64), mean[None], factor[None])
    rows, values = torch.randn(1, 2, 3, dtype=torch.float64), torch.randn(1, 2, dtype=torch.float64)
    covariance, a = (factor @ factor.T).numpy(), rows[0].numpy()
    gain = covariance @ a.T @ np.linalg.inv(a @ covariance @ a.T)
    expected = mean.numpy() + gain @ (values[0].numpy() - a @ mean.numpy())
    np.testing.assert_allclose(mixture.posterior_mean(rows, values)[0].numpy(), expected)
    draws = mixture.sample_posterior(rows, values, 200_000)[0].numpy()
    np.testing.assert_allclose(np.cov(draws.T), covariance - gain @ a @ covariance, atol=0.02 * covariance.max())


def test_the_statistic_is_the_energy_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(3, 20, 1, generator=generator), 0.5 + torch.randn(3, 20, 1, generator=generator)
    # scipy gives the root of it, for one dimension.
    pairs = zip(first[..., 0].numpy(), second[..., 0].numpy(), strict=True)
    mean = np.mean([stats.energy_distance(x, y) ** 2 for x, y in pairs])
    assert energy_test(first, second, 9, generator).distance == pytest.approx(mean, rel=1e-5)


def test_equal_distributions_are_rejected_as_often_as_promised() -> None:
    generator = torch.Generator().manual_seed(0)
    p_values = []
    for _ in range(400):
        # Scenes differ in place and width; the two samples of a scene do not.
        place, width = torch.randn(2, 5, 1, 1, generator=generator)
        samples = place + width * torch.randn(5, 12, 2, generator=generator)
        first, second = samples.chunk(2, dim=1)
        p_values.append(energy_test(first, second, 199, generator).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    assert 0.01 < np.mean(np.array(p_values) <= 0.05) < 0.1  # 0.05 ± 4.5 standard errors


def test_a_difference_is_found() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(50, 8, 2, generator=generator)
    assert energy_test(first, 2 * torch.randn(50, 8, 2, generator=generator), 999, generator).p_value == 0.001
    assert energy_test(first, torch.full_like(first, torch.nan), 999, generator).p_value == 0.001


def test_ranks_of_a_calibrated_truth_are_uniform_and_others_are_not() -> None:
    generator = torch.Generator().manual_seed(0)
    samples, truth = torch.randn(400, 7, 2, generator=generator), torch.randn(400, 2, generator=generator)
    assert ranks(torch.tensor([[[1.0], [3.0], [2.0]]]), torch.tensor([[2.5]])).tolist() == [[2]]
    assert min(uniformity(ranks(samples, truth)[:, i], 7) for i in range(2)) > 1e-3
    assert uniformity(ranks(0.5 * samples, truth)[:, 0], 7) < 1e-6
    assert uniformity(ranks(samples + 0.5, truth)[:, 0], 7) < 1e-6


@pytest.mark.parametrize(("target_numbers", "rank"), [(2, 3), (1, 2)])
def test_context_and_target_determine_the_signal_where_they_should(target_numbers: int, rank: int) -> None:
    torch.manual_seed(0)
    batch = observe_signals(three_clusters(), 50, target_numbers)
    seen = torch.cat([batch.context.params[:, 0], batch.target.params[:, 0]], dim=1)
    assert (torch.linalg.matrix_rank(seen) == rank).all()
    for views in batch[:3]:
        expected = (views.params @ batch.truth["signal"][:, None, :, None])[..., None]
        torch.testing.assert_close(views.observation, expected)
