"""The schedule, the ancestral steps and the multi-step denoising of SparseFusion against its released code."""

from collections.abc import Callable

import pytest
import torch
from sparsefusion_reference import PRECISIONS, check, reference
from torch import Tensor

from dfm_lightning.checkpoints.sparsefusion_layout import name_unet, unet_sizes
from dfm_lightning.diffusion import (
    DDIM,
    AncestralSteps,
    GivenLevels,
    LogSNRCosine,
    add_noise,
    clean_estimate,
    denoising_steps,
    falling_times,
    posterior,
)
from dfm_lightning.networks.latent_unet import LatentUNet

PROCESS = LogSNRCosine()


def predictor(condition: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    named = name_unet(reference()["unet"]["state_dict"])
    model = LatentUNet(**unet_sizes(named.state)._asdict())
    model.load_state_dict(named.state)
    model = model.eval().to(condition.dtype)

    def predict(noisy: Tensor, time: Tensor) -> Tensor:
        with torch.no_grad():
            return model(noisy, condition.expand(len(noisy), -1, -1, -1), PROCESS.log_snr(time))

    return predict


def given(noises: list[Tensor], dtype: torch.dtype) -> Callable[[], Tensor]:
    left = iter(noises)
    return lambda: next(left).to(dtype)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_schedule_and_posterior_are_the_released_ones(precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    case = reference()["schedule"]
    expected = case[precision]
    time, following, clean, noise = (case[key].to(dtype) for key in ("t", "t_next", "x0", "noise"))
    check(PROCESS.log_snr(time), expected["log_snr"], tolerance)
    signal, noisy = PROCESS.rates_at(time)
    check(signal, expected["alpha"], tolerance)
    check(noisy, expected["sigma"], tolerance)
    check(add_noise(PROCESS, clean, noise, time), expected["x_t"], tolerance)
    check(clean_estimate(PROCESS, expected["x_t"], noise, time), expected["x0_from_noise"], tolerance)
    mean, variance = posterior(PROCESS, expected["x_t"], clean, time, following)
    check(mean, expected["posterior_mean"], tolerance)
    check(variance, expected["posterior_variance"], tolerance)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("number", range(4))
def test_multistep_denoising_is_the_released_one(number: int, precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    section = reference()["plms"]
    case, start = section["cases"][number], section["cases"][number]["max_thres"]
    noise, expected = case["noise"], case[precision]
    steps = denoising_steps(start, section["plms_steps"], least=0)
    assert steps == expected["n_steps"]
    time = torch.tensor([start], dtype=dtype)
    noisy = add_noise(PROCESS, section["latent"].to(dtype), noise["forward_noise"].to(dtype), time)
    check(noisy, expected["x_t"], tolerance)
    signal, _ = PROCESS.rates_at(time)
    check(signal.square(), expected["alpha_cumprod"], tolerance)
    draws = [noise[key] for key in ("euler_noise",) if key in noise] + noise["step_noise"]
    sampler = AncestralSteps(PROCESS, given(draws, dtype))
    times = falling_times(start, steps) if steps else []
    found = sampler.denoise(predictor(section["cond"].to(dtype)), noisy, times)
    check(found, expected["x0_hat"], tolerance)


def test_numbers_of_denoising_steps_are_the_released_ones() -> None:
    case = reference()["plms_schedule"]
    assert [denoising_steps(t, 50, least=0) for t in case["t"]] == case["n_steps"]
    assert denoising_steps(0.003, 50) == 1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_ancestral_sampling_is_the_released_one(precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    case = reference()["ancestral"]
    start, *rest = case["noise"]
    sampler = AncestralSteps(PROCESS, given(rest, dtype))
    times = case[precision]["times"].tolist()
    found = sampler.sample(predictor(case["cond"].to(dtype)), start.to(dtype), times)
    check(found, case[precision]["sample"], tolerance)


def test_ancestral_steps_are_those_of_ddim_with_fresh_noise() -> None:
    """But for the step to clean, where DDIM takes the estimate itself."""
    start, clean = torch.randn(2, 3, 4, 4, dtype=torch.float64).unbind()
    fresh = torch.randn(3, 3, 4, 4, dtype=torch.float64)
    times = [0.9, 0.6, 0.4]

    def predict(noisy: Tensor, time: Tensor) -> Tensor:
        signal, noise = (part.view(-1, 1, 1) for part in PROCESS.rates_at(time))
        return (noisy - signal * clean) / noise

    ours = AncestralSteps(PROCESS, given(list(fresh), torch.float64)).sample(predict, start, times)
    sampler = DDIM(3, eta=1.0, spacing=GivenLevels([900, 600, 400]))
    theirs = [s.noisy for s in sampler.sample(lambda *_: clean, start, PROCESS, given(list(fresh), torch.float64))]
    check(ours, theirs[1], 1e-9)


def test_times_and_log_ratios_go_together() -> None:
    for level in (1.0, 250.0, 999.0):
        assert PROCESS.level_at(PROCESS.log_ratio(level)) == pytest.approx(level, rel=1e-9)
    assert 2 * PROCESS.log_ratio(1000.0) == pytest.approx(-33.9)


def test_training_times_end_before_pure_noise() -> None:
    levels = LogSNRCosine(last_training_time=0.25).training_levels(4000, torch.Generator().manual_seed(0))
    assert 0 <= levels.min() < 1
    assert 249 < levels.max() <= 250
