"""Stock scores of draws, against distributions whose scores are known."""

import pytest
import torch

from dfm_lightning.sampling.scoring import score_consistency, score_draws, score_signals

DRAWS, NUMBERS = 9, 200_000


def normal(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, NUMBERS // 4, 4, generator=torch.Generator().manual_seed(seed))


def test_draws_of_the_true_distribution_have_the_scores_that_are_expected_of_them() -> None:
    scores = score_draws(2 * normal(DRAWS, 0), 2 * normal(1, 1)[0])
    assert scores["spread"] == pytest.approx(2, rel=0.01)
    assert scores["rmse_mean"] == pytest.approx(2 * 2**0.5, rel=0.01)
    assert scores["coverage_expected"] == 0.8
    assert scores["coverage"] == pytest.approx(0.8, abs=0.005)
    assert scores["rank"] == pytest.approx(0.5, abs=0.005)


def test_draws_too_narrow_or_beside_the_truth_are_seen() -> None:
    narrow = score_draws(0.5 * normal(DRAWS, 0), normal(1, 1)[0])
    assert narrow["coverage"] < 0.6
    assert narrow["spread"] == pytest.approx(0.5, rel=0.01)
    # Each draw's chance to be below a truth that is a standard deviation higher: Φ(1/√2).
    beside = score_draws(normal(DRAWS, 0), normal(1, 1)[0] + 1)
    expected = torch.distributions.Normal(0, 1).cdf(torch.tensor(0.5**0.5)).item()
    assert beside["rank"] == pytest.approx(expected, abs=0.005)


def test_equal_draws_count_half_and_a_single_one_has_no_spread() -> None:
    assert score_draws(torch.ones(3, 1, 5), torch.ones(1, 5))["rank"] == 0.5
    alone = score_draws(torch.ones(1, 1, 5), torch.zeros(1, 5))
    assert set(alone) == {"rmse_mean", "rmse_best", "rmse_of_mean", "energy_score"}


def test_signals_are_scored_where_the_true_one_is_like_them() -> None:
    signals = [torch.zeros(1, 3), torch.ones(1, 3)]
    truth = {"signal": torch.tensor([[5.0, 5.0, 5.0], [0.5, 0.5, 0.5]])}
    scores = score_signals(signals, truth, 1)
    assert scores["signal_rmse_mean"] == pytest.approx(0.5)
    assert scores["signal_coverage"] == 1
    assert score_signals(signals, {}, 1) == {}
    assert score_signals([{"a": signals[0]}], truth, 1) == {}
    assert score_signals(signals, {"signal": torch.zeros(2, 4)}, 1) == {}


def test_consistency_is_the_mean_error_and_noise_is_what_to_expect() -> None:
    context = torch.zeros(2, 1, 1, 3)
    observed = [torch.full((1, 2, 1, 1, 3), value) for value in (1.0, 3.0)]
    assert score_consistency(observed, context, None) == {"consistency": 2.0}
    deviation = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1, 1)
    scores = score_consistency(observed, context, deviation)
    assert scores["consistency_expected"] == pytest.approx(12.5**0.5)
    unknown = score_consistency(observed, context, torch.full((1, 2, 1, 1, 1), float("inf")))
    assert "consistency_expected" not in unknown
