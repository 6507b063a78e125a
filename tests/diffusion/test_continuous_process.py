"""Processes over continuous time: their rates, what denoisers are given, training levels, and exact sampling."""

import math
from typing import Any

import pytest
import torch
from known_mixture import Mixture
from scipy import stats
from torch import Tensor

from dfm_lightning.diffusion import (
    CosineProcess,
    LogSNR,
    NoiseProcess,
    Quadratic,
    UniPC,
    VarianceExploding,
    VariancePreserving,
)

PROCESSES: list[NoiseProcess] = [VariancePreserving(), VarianceExploding()]
every_process = pytest.mark.parametrize("process", PROCESSES, ids=["preserving", "exploding"])


@every_process
def test_levels_and_signal_to_noise_ratios_lead_to_each_other(process: NoiseProcess) -> None:
    for level in (0.0, 0.3, 500.0, 999.5, 1000.0):
        assert process.level_at(process.log_ratio(level)) == pytest.approx(level, abs=1e-7)
    assert process.level_at(99) == 0
    assert process.level_at(-99) == 1000
    assert process.exact_rates(-1) == (1.0, 0.0)


def test_the_ends_are_those_asked_for() -> None:
    preserving = VariancePreserving(largest_log_ratio=4, least_log_ratio=-3)
    assert preserving.log_ratio(0) == pytest.approx(4)
    assert preserving.log_ratio(1000) == pytest.approx(-3)
    exploding = VarianceExploding(least_noise=0.01, largest_noise=50)
    assert exploding.exact_rates(0) == (1.0, pytest.approx(0.01))
    assert exploding.exact_rates(1000) == (1.0, pytest.approx(50.0))
    assert exploding.exact_rates(500)[1] == pytest.approx(math.sqrt(0.01 * 50))


def test_preserved_variance_is_the_cosine_schedule_between_its_ends() -> None:
    process, discrete = VariancePreserving(), CosineProcess()
    angle = {level: math.atan2(*reversed(discrete.exact_rates(level))) for level in (100, 500, 900)}
    # But for its offset, which ᾱ is divided by.
    assert (angle[900] - angle[500]) / (angle[500] - angle[100]) == pytest.approx(1, abs=1e-3)
    ours = {level: math.atan2(*reversed(process.exact_rates(level))) for level in (100, 500, 900)}
    assert (ours[900] - ours[500]) / (ours[500] - ours[100]) == pytest.approx(1)
    for level in (0, 1.5, 1000):
        signal_rate, noise_rate = process.exact_rates(level)
        assert signal_rate**2 + noise_rate**2 == pytest.approx(1)


@every_process
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rates_of_tensors_are_the_exact_ones(process: NoiseProcess, dtype: torch.dtype) -> None:
    levels = torch.tensor([-1.0, 0.0, 333.25, 1000.0])
    signal_rates, noise_rates = process.rates(levels, torch.zeros(4, 1, 2, dtype=dtype))
    assert signal_rates.shape == noise_rates.shape == (4, 1, 1)
    assert signal_rates.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = 1e-14 if dtype == torch.float64 else 1e-6
    for row, level in enumerate(levels.tolist()):
        assert signal_rates[row].item() == pytest.approx(process.exact_rates(level)[0], rel=tolerance)
        assert noise_rates[row].item() == pytest.approx(process.exact_rates(level)[1], rel=tolerance)


@every_process
def test_training_levels_are_uniform_and_come_from_the_generator(process: NoiseProcess) -> None:
    levels = process.training_levels(50_000, torch.Generator().manual_seed(1))
    assert stats.kstest(levels.numpy() / 1000, "uniform").pvalue > 1e-3
    assert torch.equal(levels, process.training_levels(50_000, torch.Generator().manual_seed(1)))


def test_training_noise_may_be_log_normal() -> None:
    process = VarianceExploding(training_log_noise=(-1.2, 1.2))
    levels = process.training_levels(50_000, torch.Generator().manual_seed(2))
    log_noise = process.rates(levels, torch.zeros(50_000))[1].log()
    ends = [(math.log(noise) + 1.2) / 1.2 for noise in (0.002, 80.0)]
    assert stats.kstest(log_noise.numpy(), stats.truncnorm(*ends, loc=-1.2, scale=1.2).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    "process", [VariancePreserving(data_std=0.5), VarianceExploding()], ids=["preserving", "exploding"]
)
def test_denoisers_are_given_unit_variance(process: NoiseProcess) -> None:
    clean, noise = torch.randn(2, 3, 40_000, generator=torch.Generator().manual_seed(3))
    level = torch.tensor([0.0, 600.0, 1000.0])
    scaled, told = process.denoiser_input(process.add_noise(0.5 * clean, noise, level), level)
    torch.testing.assert_close(scaled.std(dim=1), torch.ones(3), rtol=0.02, atol=0)
    assert torch.equal(told, level)


def test_what_is_told_is_linear_in_the_logarithm_of_the_noise() -> None:
    process = VarianceExploding()
    levels = [0.0, 250.0, 500.0, 1000.0]
    logs = [math.log(process.exact_rates(level)[1]) for level in levels]
    assert (logs[2] - logs[1]) / (logs[1] - logs[0]) == pytest.approx(1)
    assert (logs[3] - logs[2]) / (logs[1] - logs[0]) == pytest.approx(2)


@pytest.mark.parametrize(
    "process",
    [VariancePreserving(data_std=0.5), VarianceExploding(), VarianceExploding(data_std=None)],
    ids=["preserving", "exploding", "not scaled"],
)
@pytest.mark.parametrize("spacing", [Quadratic(last=0), LogSNR()], ids=["quadratic", "log snr"])
def test_the_exact_denoiser_samples_the_distribution(process: Any, spacing: Any) -> None:
    # Data N(mean, spread²): the denoiser undoes the scaling that it is told of by the level.
    mean, spread, draws = 0.7, 0.5, 20_000
    single = Mixture(*(torch.tensor(value, dtype=torch.float64) for value in ([1.0], [[mean]], [spread])))

    def denoise(given: Tensor, level: Tensor) -> Tensor:
        signal_rate, noise_rate = process.exact_rates(level[0].item())
        scale = 1.0 if process.data_std is None else math.hypot(signal_rate * process.data_std, noise_rate)
        return single.mean_given(given * scale, signal_rate, noise_rate)

    noise = torch.randn(draws, 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    noise = (noise - noise.mean()) / noise.std()  # so that only the sampler errs
    *_, last = UniPC(30, spacing=spacing).sample(denoise, noise, process, lambda: noise)
    assert last.noisy.mean().item() == pytest.approx(mean, abs=0.02)
    assert last.noisy.std().item() == pytest.approx(spread, rel=0.02)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: VariancePreserving(levels=0), "levels"),
        (lambda: VariancePreserving(largest_log_ratio=-6), "largest_log_ratio"),
        (lambda: VariancePreserving(data_std=0), "data_std"),
        (lambda: VarianceExploding(least_noise=0), "least_noise"),
        (lambda: VarianceExploding(largest_noise=0.001), "largest_noise"),
        (lambda: VarianceExploding(training_log_noise=(0, 0)), "training_log_noise"),
    ],
)
def test_impossible_settings_are_refused(make: Any, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make()


def test_processes_add_nothing_to_checkpoints() -> None:
    assert VariancePreserving().state_dict() == VarianceExploding().state_dict() == {}


def test_log_normal_training_noise_is_cut_off_at_both_ends() -> None:
    process = VarianceExploding(least_noise=0.1, largest_noise=1.0, training_log_noise=(-1.2, 1.2))
    levels = process.training_levels(20_000, torch.Generator().manual_seed(0)).double()
    first, last = math.log(0.1), 0.0
    log_noise = first + levels / process.levels * (last - first)
    law = stats.truncnorm((first + 1.2) / 1.2, (last + 1.2) / 1.2, loc=-1.2, scale=1.2)
    assert stats.kstest(log_noise.numpy(), law.cdf).pvalue > 0.01
