"""DDIM against diffusers' scheduler and against the closed form for Gaussian data."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from dfm_lightning.diffusion import DDIM, CosineProcess, dynamic_threshold

STEPS = [1, 10, 50, 250]


def estimate(noisy: Tensor, level: Tensor) -> Tensor:
    """A denoiser that depends on both of its inputs and is no multiple of the noisy observation."""
    return (noisy * (1 - level.view(-1, 1, 1, 1, 1) / 1100) + 0.3).tanh()


def scheduler_of_diffusers(steps: int) -> Any:
    scheduler: Any = DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    return scheduler


def fresh_noise(seed: int, shape: tuple[int, ...]) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator)


def no_noise() -> Tensor:
    raise AssertionError("a deterministic sampler draws no noise")


@pytest.mark.parametrize("steps", STEPS)
def test_levels_are_those_of_diffusers(steps: int) -> None:
    assert DDIM(steps).levels(CosineProcess()) == [*scheduler_of_diffusers(steps).timesteps.tolist(), -1]


def test_levels_fall_from_the_last_to_clean() -> None:
    process = CosineProcess()
    for steps in [*range(1, 101), 333, 499, 500, 501, 777, 999, 1000]:
        levels = DDIM(steps).levels(process)
        assert (len(levels), levels[0], levels[-1]) == (steps + 1, 999, -1)
        assert all(current > following for current, following in pairwise(levels))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_every_step_is_that_of_diffusers(steps: int, eta: float) -> None:
    shape = (3, 1, 2, 4, 4)
    process, scheduler = CosineProcess(), scheduler_of_diffusers(steps)
    noisy = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    ours = DDIM(steps, eta).sample(estimate, noisy, process, fresh_noise(1, shape) if eta else no_noise)
    their_noise = fresh_noise(1, shape)

    for timestep, step in zip(scheduler.timesteps, ours, strict=True):
        clean = estimate(noisy, timestep.expand(3))
        variance_noise = their_noise() if eta else None
        noisy = scheduler.step(clean, int(timestep), noisy, eta=eta, variance_noise=variance_noise).prev_sample
        # Both compute in float32; √(1/ᾱ) is 2e4 at the first level.
        torch.testing.assert_close(step.noisy, noisy, rtol=2e-3, atol=2e-4)
        torch.testing.assert_close(step.clean, clean, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_sample_is_the_last_estimate(eta: float) -> None:
    shape = (2, 1, 1, 4, 4)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    *_, last = DDIM(7, eta).sample(estimate, noise, CosineProcess(), fresh_noise(3, shape))
    assert torch.equal(last.noisy, last.clean)


@pytest.mark.parametrize(("eta", "steps", "tolerance"), [(0.0, 500, 0.004), (1.0, 500, 0.02)])
def test_gaussian_data_is_sampled_with_its_mean_and_spread(eta: float, steps: int, tolerance: float) -> None:
    # Data N(mean, spread²): E[x₀ | x_t] is linear in x_t.
    mean, spread, process = 0.7, 0.5, CosineProcess().double()

    def exact(noisy: Tensor, level: Tensor) -> Tensor:
        alpha = process.alpha_bar(level, noisy)
        gain = alpha.sqrt() * spread**2 / (alpha * spread**2 + 1 - alpha)
        return mean + gain * (noisy - alpha.sqrt() * mean)

    draws = 10_000
    noise = torch.randn(1, 1, 1, 1, draws, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    noise = (noise - noise.mean()) / noise.std()  # so that without fresh noise only the sampler errs
    draw = fresh_noise(5, tuple(noise.shape))
    *_, last = DDIM(steps, eta).sample(exact, noise, process, lambda: draw().double())
    assert last.noisy.mean().item() == pytest.approx(mean, abs=tolerance)
    assert last.noisy.std().item() == pytest.approx(spread, rel=tolerance)


def test_temperature_scales_the_initial_noise_alone() -> None:
    noise = torch.randn(2, 1, 1, 4, 4, generator=torch.Generator().manual_seed(6))
    *_, cooler = DDIM(5, temperature=0.25).sample(estimate, noise, CosineProcess(), no_noise)
    *_, scaled = DDIM(5).sample(estimate, noise * 0.25, CosineProcess(), no_noise)
    assert torch.equal(cooler.noisy, scaled.noisy)


def test_dynamic_threshold_by_hand() -> None:
    small = torch.tensor([[0.5, -1.0, 0.2, 0.0, 0.1]])
    large = torch.tensor([[0.5, -4.0, 2.0, 1.0, -3.0]])
    # Sorted absolute values of `large`: 0.5 1 2 3 4; the 0.75 quantile is 3.
    expected = torch.tensor([[0.5, -3.0, 2.0, 1.0, -3.0]]) / 3
    torch.testing.assert_close(dynamic_threshold(torch.cat([small, large]), 0.75), torch.cat([small, expected]))


def test_thresholded_samples_stay_within_the_range() -> None:
    noise = torch.randn(2, 1, 1, 4, 4, generator=torch.Generator().manual_seed(7))
    sampler = DDIM(5, threshold_quantile=0.9)
    *_, last = sampler.sample(lambda noisy, level: 5 * noisy, noise, CosineProcess(), no_noise)
    assert last.noisy.abs().max() == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"eta": 1.5}, "eta must be within 0 and 1, got 1.5"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0"),
        ({"threshold_quantile": -0.1}, "threshold_quantile must be within 0 and 1, got -0.1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DDIM(**settings)


def test_more_steps_than_levels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\b20\b.*\b10\b"):
        DDIM(20).levels(CosineProcess(levels=10))


@pytest.mark.parametrize("default", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("steps", [1, 7, 50, 120, 999, 1000])
def test_levels_are_whole_and_exact_whatever_the_default_precision(default: torch.dtype, steps: int) -> None:
    expected = [math.floor(Fraction(step * 1000, steps)) - 1 for step in range(steps, -1, -1)]
    torch.set_default_dtype(default)
    try:
        levels = DDIM(steps).levels(CosineProcess())
    finally:
        torch.set_default_dtype(torch.float32)
    assert levels == expected
    assert (levels[0], levels[-1]) == (999, -1)
