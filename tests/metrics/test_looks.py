"""Looks of hidden parts: colours that are known, distributions that are drawn."""

import math

import numpy as np
import pytest
import torch

from dfm_lightning.metrics.looks import UNDECIDED, distribution_of_looks, pixel_looks, sampled_looks

COLOURS = torch.tensor([[0.95, 0.12, 0.1], [0.1, 0.8, 0.2], [0.15, 0.25, 1.0], [1.0, 0.85, 0.1]])
LAW = np.array([0.4, 0.3, 0.2, 0.1])


def painted(*colours: torch.Tensor) -> torch.Tensor:
    """An image in [-1, 1] with one pixel of each colour: 3 1 n."""
    return torch.stack(colours, dim=1)[:, None] * 2 - 1


def test_a_colour_is_known_at_any_brightness() -> None:
    for brightness in (1.0, 0.5, 0.2):
        assert pixel_looks(painted(*COLOURS * brightness), COLOURS).tolist() == [[0, 1, 2, 3]]


def test_mixtures_greys_and_darkness_are_no_look() -> None:
    mean = torch.from_numpy(LAW).float() @ COLOURS  # what a model that averages would paint
    pixels = painted(mean, torch.full((3,), 0.6), COLOURS[0] * 0.05, torch.zeros(3))
    assert pixel_looks(pixels, COLOURS).tolist() == [[UNDECIDED] * 4]


def test_the_border_between_colours_is_half_their_angle() -> None:
    """Turned from one colour to the nearest other, a pixel is the first one's up to the middle."""
    first, other = COLOURS[0] / COLOURS[0].norm(), COLOURS[3] / COLOURS[3].norm()
    angle = math.acos(float(first @ other))
    across = (other - (first @ other) * first) / math.sin(angle)
    for part, expected in ((0.45, 0), (0.55, 3)):
        pixel = math.cos(part * angle) * first + math.sin(part * angle) * across
        assert pixel_looks(painted(pixel), COLOURS).tolist() == [[expected]]


def test_a_sample_has_the_look_that_most_of_its_pixels_show() -> None:
    red, green, _, _ = COLOURS
    samples = torch.stack([painted(red, red, green), painted(red, green, 0.5 * (red + green))])[:, None]
    hidden = torch.ones(1, 1, 3, dtype=torch.bool)
    found = sampled_looks(samples, hidden, COLOURS)
    assert found.look.tolist() == [0, UNDECIDED]
    torch.testing.assert_close(found.purity, torch.tensor([2 / 3, 1 / 3], dtype=torch.float64))
    hidden[0, 0, :2] = False
    assert sampled_looks(samples[:1], hidden, COLOURS).look.tolist() == [1]
    with pytest.raises(ValueError, match="hidden"):
        sampled_looks(samples, torch.zeros_like(hidden), COLOURS)


def drawn(scenes: int, samples: int, law: np.ndarray, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.choice(len(law), size=(scenes, samples), p=law), random.choice(len(law), size=scenes, p=law)


def test_samples_of_the_law_are_near_it() -> None:
    looks, true = drawn(400, 8, LAW)
    found = distribution_of_looks(looks, true, LAW)
    # Shares of 3200 independent samples have standard errors below 0.009, agreement and correct below 0.02.
    assert found.total_variation[0] < 0.03
    assert found.expected_agreement == pytest.approx(0.3)
    assert found.agreement == pytest.approx(0.3, abs=0.03)
    assert found.correct == pytest.approx(0.3, abs=0.06)
    assert all(share.low <= share.share <= share.high for share in found.shares)
    # The interval of a share of independent samples is about 1.96 binomial standard errors wide on either side.
    expected = 1.96 * math.sqrt(0.4 * 0.6 / 3200)
    assert (found.shares[0].high - found.shares[0].low) / 2 == pytest.approx(expected, rel=0.2)


def test_one_look_for_all_is_far_from_the_law() -> None:
    looks, true = np.zeros((50, 4), dtype=int), drawn(50, 4, LAW)[1]
    found = distribution_of_looks(looks, true, LAW)
    assert found.total_variation == pytest.approx((0.6, 0.6, 0.6))
    assert found.agreement == 1
    assert found.correct == pytest.approx((true == 0).mean())


def test_undecided_samples_count_as_wrong() -> None:
    looks, true = drawn(200, 8, LAW)
    looks[:, :4] = UNDECIDED
    found = distribution_of_looks(looks, true, LAW)
    assert found.undecided.share == 0.5
    assert found.total_variation[0] == pytest.approx(0.5, abs=0.03)
    assert found.agreement == pytest.approx(0.3, abs=0.06)


def test_scenes_with_a_look_each_agree_with_themselves_alone() -> None:
    looks = np.repeat(drawn(400, 1, LAW)[0], 8, axis=1)
    found = distribution_of_looks(looks, drawn(400, 1, LAW, seed=2)[1], LAW)
    assert found.agreement == 1
    # Eight equal samples are worth one: the interval is as wide as that of 400 samples.
    expected = 1.96 * math.sqrt(0.4 * 0.6 / 400)
    assert (found.shares[0].high - found.shares[0].low) / 2 == pytest.approx(expected, rel=0.2)


def test_nothing_decided_is_no_number() -> None:
    found = distribution_of_looks(np.full((3, 2), UNDECIDED), np.zeros(3, dtype=int), LAW)
    assert math.isnan(found.agreement)
    assert math.isnan(found.correct)
    assert found.total_variation[0] == 1
