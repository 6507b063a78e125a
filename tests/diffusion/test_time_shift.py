"""Time-shift sampling, against a recursion of scales for Gaussian data, which needs no observations at all."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dfm_lightning.diffusion import (
    DDIM,
    DEIS,
    CosineProcess,
    DPMSolver,
    Quadratic,
    Sampler,
    TimeShift,
    UniPC,
    VariancePreserving,
)
from dfm_lightning.diffusion.samplers import last_step
from dfm_lightning.types import Level

PROCESS = CosineProcess()
RATES = np.array([PROCESS.exact_rates(level) for level in range(1000)])
VARIANCE = 0.25
NUMBERS = 5000


def gain(level: int, bias: float) -> float:
    """E[x₀ | x] / x for independent normal numbers of variance VARIANCE, and a factor that is wrong."""
    signal, noise = RATES[level]
    return bias * signal * VARIANCE / (signal**2 * VARIANCE + noise**2)


def denoiser(bias: float, told: list[list[int]] | None = None):
    def denoise(noisy: Tensor, level: Level) -> Tensor:
        if told is not None:
            told.append(level.tolist())
        gains = torch.tensor([gain(each, bias) for each in level.tolist()], dtype=noisy.dtype)
        return gains[:, None] * noisy

    return denoise


def noise(batch: int = 1) -> Tensor:
    return torch.randn(batch, NUMBERS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def sampled(sampler: Sampler, start: Tensor, bias: float, told: list[list[int]] | None = None) -> Tensor:
    return last_step(sampler, denoiser(bias, told), start, PROCESS, lambda: start.flip(1)).noisy


def recursion(levels: list[int], start: float, bias: float, window: int, cutoff: int) -> tuple[float, list[int]]:
    """The scale of the sample if noise of that scale is sampled by DDIM, and the levels that are told."""
    scale, told = start, [levels[0]]
    for place, following in enumerate(levels[1:], start=1):
        (signal, deviation), (next_signal, next_deviation) = RATES[told[-1]], RATES[following]
        clean = gain(told[-1], bias) * scale
        scale = next_signal * clean + next_deviation * (scale - signal * clean) / deviation
        after = levels[place + 1] if place + 1 < len(levels) else -1
        allowed = [
            level
            for level in range(1000)
            if abs(level - following) <= (window if following > cutoff else 0) and after < level < told[-1]
        ]
        expected = RATES[:, 0] ** 2 * VARIANCE + RATES[:, 1] ** 2
        told.append(min(allowed, key=lambda level: abs(expected[level] - scale**2)))
    return gain(told[-1], bias) * scale, told


@pytest.mark.parametrize("bias", [0.85, 1.0, 1.1])
@pytest.mark.parametrize(("window", "cutoff"), [(40, 0), (15, 300)])
def test_levels_and_samples_are_those_of_a_recursion_of_scales(bias: float, window: int, cutoff: int) -> None:
    start = noise()
    told: list[list[int]] = []
    sampler = TimeShift(DDIM(8, spacing=Quadratic()), window, cutoff, VARIANCE)
    found = sampled(sampler, start, bias, told)
    scale, levels = recursion(sampler.levels(PROCESS)[:-1], float(start.std(correction=0)), bias, window, cutoff)
    assert told == [[level] for level in levels]
    torch.testing.assert_close(found, start * (scale / start.std(correction=0)), rtol=1e-9, atol=0)


def test_what_wrong_estimates_leave_is_made_up_for() -> None:
    """Estimates that are too small make the sample's deviation too small, and less so where levels are moved."""
    start = noise(4)
    inner = DDIM(20)
    errors = [
        float((sampled(sampler, start, 0.9).std(dim=1) - VARIANCE**0.5).abs().mean())
        for sampler in (inner, TimeShift(inner, 60, 100, VARIANCE))
    ]
    assert errors[1] < 0.75 * errors[0]


def test_as_published_the_variance_of_the_noise_alone_is_matched() -> None:
    start, sampler = noise(), TimeShift(DDIM(5), 500, 0)
    start, nominal = start / start.std(correction=0), sampler.levels(PROCESS)[:-1]
    told: list[list[int]] = []
    sampled(sampler, start, 0.0, told)
    # An estimate of 0 leaves noise of the deviation that each level says: nothing moves.
    assert told == [[level] for level in nominal]
    quieter: list[list[int]] = []
    sampled(sampler, 0.9 * start, 0.0, quieter)
    expected = np.abs(RATES[:, 1] ** 2 - (0.9 * RATES[nominal[1], 1]) ** 2).argmin()
    assert quieter == [[999], [expected], *told[2:]]


@pytest.mark.parametrize("inner", [DDIM(9), DDIM(9, eta=1.0), DPMSolver(9), DEIS(9), UniPC(9, corrector=False)])
def test_without_a_shift_it_is_the_other_sampler(inner: Sampler) -> None:
    start = noise(2)
    expected = sampled(inner, start, 0.9)
    for sampler in (TimeShift(inner, 0), TimeShift(inner, 40, 1000)):
        torch.testing.assert_close(sampled(sampler, start, 0.9), expected, rtol=0, atol=1e-12)
    assert not torch.equal(sampled(TimeShift(inner, 40, 0, VARIANCE), start, 0.9), expected)


@pytest.mark.parametrize("inner", [DDIM(9, eta=0.5), DPMSolver(9)])
def test_samples_do_not_depend_on_those_beside_them(inner: Sampler) -> None:
    start = noise(3) * torch.tensor([[0.95], [1.0], [1.05]])
    sampler = TimeShift(inner, 30, 0, VARIANCE)
    told: list[list[int]] = []
    together = sampled(sampler, start, 0.9, told)
    for row in range(3):
        assert torch.equal(sampled(sampler, start[row : row + 1], 0.9)[0], together[row])
    assert any(len(set(levels)) > 1 for levels in told)


def test_it_refuses_what_it_cannot_shift() -> None:
    with pytest.raises(ValueError, match="corrector"):
        TimeShift(UniPC(5))
    with pytest.raises(ValueError, match="temperature"):
        TimeShift(DDIM(5, temperature=0.7))
    with pytest.raises(ValueError, match="integer levels"):
        TimeShift(DDIM(5)).check(VariancePreserving())
