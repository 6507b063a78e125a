"""Each sampler converges to the exact probability-flow solution at its order, where steps are even enough."""

import math
from collections.abc import Callable

import pytest
import torch
from known_mixture import Mixture, reference, sampler_named
from torch import Tensor

from dfm_lightning.diffusion import (
    DDIM,
    CosineProcess,
    DPMSolver,
    DPMSolverSDE,
    Even,
    GivenLevels,
    Sampler,
    UniPC,
    VariancePreserving,
)

REFERENCE = reference()
MIXTURE = Mixture(REFERENCE["weights"], REFERENCE["means"], REFERENCE["stds"])
PROCESS = VariancePreserving(largest_log_ratio=3, least_log_ratio=-3)
START, END = -2.5, 1.5  # ln(α/σ)
BEYOND = 3  # steps after the end: the last ones of a run are of lower order


def full_3m(steps: int, spacing: GivenLevels) -> Sampler:
    return DPMSolver(steps, order=3, full_curvature=True, uneven_below=0, spacing=spacing)


def no_noise() -> Tensor:
    raise AssertionError("a deterministic sampler draws no noise")


def error(make: Callable[[int, GivenLevels], Sampler], parts: int, graded: bool) -> float:
    """The root mean square error at END after as many parts, even in λ.

    Multistep methods begin with steps of first order. `graded` divides the first part into ever shorter ones, so
    that these do not decide the error.
    """
    length = (END - START) / parts
    log_ratios = [START + part * length for part in range(parts + 1 + BEYOND)]
    if graded:
        log_ratios[1:1] = [START + length * 0.5**halving for halving in range(8, 0, -1)]
    levels = [PROCESS.level_at(value) for value in log_ratios]
    sampler = make(len(levels), GivenLevels(levels))
    steps = list(sampler.sample(MIXTURE.denoiser(PROCESS), REFERENCE["x_T"], PROCESS, no_noise))
    start, end = (PROCESS.exact_rates(levels[index]) for index in (0, -1 - BEYOND))
    exact = MIXTURE.solution(REFERENCE["x_T"], start, end)
    return (steps[-2 - BEYOND].noisy - exact).square().mean().sqrt().item()


@pytest.mark.parametrize(
    ("name", "order", "graded"),
    [
        ("ddim", 1, True),
        ("dpmpp_2m", 2, True),
        ("dpmpp_2m_heun", 2, True),
        ("dpmpp_3m", 2, True),  # of second order as published
        ("full_3m", 3, True),
        ("dpmpp_2s", 2, True),
        ("unipc_2", 3, True),  # one more than the predictor by the corrector
        ("unipc_3", 4, True),
        ("deis_2_logrho", 2, True),
        ("deis_3_logrho", 3, True),
        ("deis_2_rho", 2, True),
        ("deis_3_rho", 3, True),
        # These take all steps for even.
        ("ipndm_4", 2, False),
        ("plms_4", 2, False),
        ("f_pndm", 2, False),
        ("ghvb_1.8", 2, False),
        ("ghvb_2.8", 2, False),
        ("hb_1.8", 1, False),
        ("hb_2.8", 1, False),
        ("heun", 2, False),
        ("exp_heun", 2, False),
    ],
)
def test_the_error_falls_with_the_order(name: str, order: int, graded: bool) -> None:
    def make(steps: int, spacing: GivenLevels) -> Sampler:
        return full_3m(steps, spacing) if name == "full_3m" else sampler_named(name, steps, spacing)

    coarse, fine = (error(make, parts, graded) for parts in (80, 160))
    assert order - 0.4 < math.log2(coarse / fine) < order + 0.4


def test_the_corrector_brings_one_order() -> None:
    def make(steps: int, spacing: GivenLevels) -> Sampler:
        return UniPC(steps, corrector=False, uneven_below=0, spacing=spacing)

    coarse, fine = (error(make, parts, True) for parts in (80, 160))
    assert 1.6 < math.log2(coarse / fine) < 2.4


@pytest.mark.parametrize("order", [2, 3])
def test_a_history_that_is_too_uneven_is_not_used(order: int) -> None:
    # On even levels down to 0 the step into level 0 is five times as long in λ as the one before it.
    process = CosineProcess()
    errors = []
    for uneven_below in (0, 0.5):
        sampler = DPMSolver(15, order=order, uneven_below=uneven_below, spacing=Even())
        *_, last = sampler.sample(MIXTURE.denoiser(process), REFERENCE["x_T"], process, no_noise)
        errors.append((last.noisy - REFERENCE["exact"]["995"]).square().mean().sqrt().item())
    assert errors[1] < 0.65 * errors[0]


@pytest.mark.parametrize(
    "sampler", [DDIM(200, eta=1.0), DPMSolverSDE(60), DPMSolverSDE(60, order=3)], ids=["ddpm", "sde 2m", "sde 3m"]
)
def test_stochastic_samplers_follow_the_distribution(sampler: Sampler) -> None:
    # Data N(mean, spread²).
    mean, spread, draws = 0.7, 0.5, 20_000
    single = Mixture(*(torch.tensor(value, dtype=torch.float64) for value in ([1.0], [[mean]], [spread])))
    generator = torch.Generator().manual_seed(1)

    def draw() -> Tensor:
        return torch.randn(draws, 1, generator=generator, dtype=torch.float64)

    *_, last = sampler.sample(single.denoiser(PROCESS), draw(), PROCESS, draw)
    # The standard errors are 0.0035 and 0.0025; with as few steps the methods err by a few per cent themselves.
    assert last.noisy.mean().item() == pytest.approx(mean, abs=0.015)
    assert last.noisy.std().item() == pytest.approx(spread, rel=0.05)
