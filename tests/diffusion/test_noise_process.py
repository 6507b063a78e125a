"""The schedule and its algebra, against diffusers and closed forms."""

import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import nn

from dfm_lightning.diffusion import CosineProcess, cosine_schedule

LEVELS = torch.tensor([0, 1, 250, 700, 990, 999])


@pytest.mark.parametrize("levels", [1000, 250])
def test_the_cosine_schedule_is_that_of_diffusers(levels: int) -> None:
    oracle: Any = DDIMScheduler(num_train_timesteps=levels, beta_schedule="squaredcos_cap_v2")
    torch.testing.assert_close(cosine_schedule(levels).float(), oracle.alphas_cumprod, rtol=2e-4, atol=1e-9)


def test_the_cosine_schedule_is_its_closed_form_where_beta_is_not_clipped() -> None:
    def cosine(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [cosine((t + 1) / 1000) / cosine(0.0) for t in range(999)]
    torch.testing.assert_close(cosine_schedule(1000)[:999], torch.tensor(expected, dtype=torch.float64))


def test_beta_is_clipped_at_the_last_level() -> None:
    schedule = cosine_schedule(1000)
    torch.testing.assert_close(1 - schedule[999] / schedule[998], torch.tensor(0.999, dtype=torch.float64))
    assert (1 - schedule[1:999] / schedule[:998]).max() < 0.999


def test_noise_is_added_as_by_diffusers() -> None:
    clean, noise = torch.randn(2, len(LEVELS), 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    oracle: Any = DDIMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    ours, theirs = CosineProcess().add_noise(clean, noise, LEVELS), oracle.add_noise(clean, noise, LEVELS)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_noisy_observations_have_unit_variance_when_clean_ones_do() -> None:
    generator = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, len(LEVELS), 20_000, generator=generator)
    variance = CosineProcess().add_noise(clean, noise, LEVELS).var(dim=1)
    torch.testing.assert_close(variance, torch.ones(len(LEVELS)), rtol=0.05, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clean_noise_and_noisy_lead_to_each_other(dtype: torch.dtype) -> None:
    process = CosineProcess().to(dtype)
    clean, noise = torch.randn(2, len(LEVELS), 1, 2, 3, 3, generator=torch.Generator().manual_seed(2)).to(dtype)
    noisy = process.add_noise(clean, noise, LEVELS)
    assert noisy.dtype == dtype
    # Rounding is divided by √(1 − ᾱ) on the way to the noise, that of 1 − ᾱ = 4e-5 itself included, and by √ᾱ,
    # 5e-5 at the last level, on the way to the clean observation.
    rounding = torch.finfo(dtype).eps
    noise_again = process.noise_from_clean(noisy, clean, LEVELS)
    torch.testing.assert_close(noise_again, noise, rtol=0, atol=rounding / 4e-5)
    clean_again = process.clean_from_noise(noisy, noise, LEVELS)
    torch.testing.assert_close(clean_again[:-1], clean[:-1], rtol=0, atol=rounding / 1e-3)
    torch.testing.assert_close(clean_again[-1], clean[-1], rtol=0, atol=rounding / 5e-5)


def test_level_minus_one_is_the_clean_observation() -> None:
    clean, noise = torch.randn(2, 3, 1, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(CosineProcess().add_noise(clean, noise, torch.tensor([-1, -1, -1])), clean)


def test_training_levels_are_uniform_over_all_levels() -> None:
    process = CosineProcess(levels=8)
    counts = torch.bincount(process.training_levels(80_000, torch.Generator().manual_seed(4)), minlength=8)
    assert len(counts) == 8
    # Binomial with mean 10,000 and standard deviation 94.
    assert (counts - 10_000).abs().max() < 5 * 94


def test_emphasis_draws_noisy_levels_oftener() -> None:
    process = CosineProcess(levels=8, emphasis=1.0)
    counts = torch.bincount(process.training_levels(64_000, torch.Generator().manual_seed(4)), minlength=8)
    # The density t on [0, 8) gives level k the probability ((k + 1)² − k²) / 64; standard deviations up to 112.
    expected = torch.tensor([1000 * (2 * level + 1) for level in range(8)])
    assert (counts - expected).abs().max() < 5 * 112


def test_negative_emphasis_draws_levels_with_little_noise_oftener() -> None:
    process = CosineProcess(levels=1000, emphasis=-0.5)
    drawn = process.training_levels(40_000, torch.Generator().manual_seed(5))
    assert drawn.min() == 0
    assert drawn.max() <= 999
    # The density t^(−1/2) on [0, 1000) gives the levels below t the probability (t / 1000)^(1/2).
    for limit in (1, 10, 90, 250, 640):
        share = (limit / 1000) ** 0.5
        counted, deviation = (drawn < limit).sum(), (40_000 * share * (1 - share)) ** 0.5
        assert abs(counted - 40_000 * share) < 5 * deviation
    with pytest.raises(ValueError, match="emphasis must be above -1, got -1"):
        CosineProcess(emphasis=-1.0)


def test_training_levels_come_from_the_generator_that_is_named() -> None:
    process = CosineProcess()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    drawn = process.training_levels(16, torch.Generator().manual_seed(6))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(drawn, process.training_levels(16, torch.Generator().manual_seed(6)))
    assert not torch.equal(drawn, process.training_levels(16))
    assert not torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("levels", [1000, 250])
def test_exact_rates_keep_double_precision_when_the_module_is_cast(levels: int) -> None:
    schedule, process = cosine_schedule(levels).tolist(), CosineProcess(levels).bfloat16()
    for level in (0, 1, levels // 2, levels - 1):
        signal_rate, noise_rate = process.exact_rates(level)
        assert signal_rate == pytest.approx(math.sqrt(schedule[level]), rel=1e-15)
        assert noise_rate == pytest.approx(math.sqrt(1 - schedule[level]), rel=1e-15)
    assert process.exact_rates(-1) == (1.0, 0.0)
    assert process.log_ratio(-1) == math.inf


def test_levels_are_found_by_their_signal_to_noise_ratio() -> None:
    process = CosineProcess()
    for level in (0, 3, 500, 998, 999):
        assert process.level_at(process.log_ratio(level)) == pytest.approx(level, abs=1e-9)
    between = process.level_at((process.log_ratio(700) + process.log_ratio(701)) / 2)
    assert between == pytest.approx(700.5)
    assert process.level_at(99.0) == 0
    assert process.level_at(-99.0) == 999


def test_the_schedule_is_not_in_checkpoints() -> None:
    assert CosineProcess().state_dict() == {}


def test_a_process_without_levels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"levels.*\b0\b"):
        CosineProcess(levels=0)


@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16])
def test_the_schedule_stays_exact_whatever_the_model_is_cast_to(cast: torch.dtype) -> None:
    process, expected = nn.ModuleDict({"process": CosineProcess()}).to(cast)["process"], CosineProcess()
    for name, values in expected.named_buffers():
        assert torch.equal(getattr(process, name), values)
    clean, noise = torch.randn(2, 4, 1, 3, 2, 2, generator=torch.Generator().manual_seed(7))
    level = torch.tensor([0, 1, 700, 999])
    assert torch.equal(process.add_noise(clean, noise, level), expected.add_noise(clean, noise, level))
    assert process.add_noise(clean.to(cast), noise, level).dtype == torch.float32


def test_a_schedule_raised_to_double_precision_has_all_its_digits() -> None:
    process = CosineProcess().half().double()
    assert torch.equal(process.alphas_cumprod, cosine_schedule(1000))
    total = process.signal_rates.square() + process.noise_rates.square()
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-15)


def test_the_schedule_does_not_depend_on_the_default_precision() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        process = CosineProcess()
        drawn = process.training_levels(1000, torch.Generator().manual_seed(8))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(process.signal_rates, CosineProcess().signal_rates)
    assert process.signal_rates.dtype == torch.float32
    assert drawn.dtype == torch.int64
    assert torch.equal(drawn, CosineProcess().training_levels(1000, torch.Generator().manual_seed(8)))


def test_level_0_has_the_first_rate_of_the_schedule_and_the_clean_observation_1() -> None:
    process = CosineProcess()
    found = process.alpha_bar(torch.tensor([0, -1, 999]), torch.zeros(3, 2))
    expected = torch.stack([process.alphas_cumprod[0], torch.tensor(1.0), process.alphas_cumprod[-1]])
    assert torch.equal(found, expected[:, None])
    assert found[0] < 1
