"""Zero-shot solvers and EDM's sampler against what their authors' codes computed on the same noise
(tests/data/README.md).
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from known_problems import (
    DATA,
    MORE_RUNS,
    PRIOR,
    SHAPE,
    LinearSchedule,
    exact_denoiser,
    operator_of,
    posterior,
    problem,
)
from torch import Tensor

from dfm_lightning.diffusion import Even, GivenLevels, Heun, Karras, NoiseProcess, VarianceExploding
from dfm_lightning.diffusion.zero_shot import (
    DAPS,
    DDNM,
    DDRM,
    DDS,
    DPS,
    PiGDM,
    REDDiff,
    ZeroShotSolver,
    linear_problem,
)

RUNS = {**DATA["runs"], **MORE_RUNS}
TOLERANCE = 2e-6


def named(name: str) -> list[str]:
    return [run.split("/")[0] for run in RUNS if run.split("/")[1] == name]


def finish(
    solver: ZeroShotSolver,
    run: str,
    noise: Tensor,
    tape: Iterator[Tensor],
    process: NoiseProcess | None = None,
    batch: int = 2,
) -> Tensor:
    process = process or LinearSchedule()
    found = solver.solve(
        exact_denoiser(process),
        problem(run.split("/")[0], batch),
        noise.reshape(-1, *SHAPE),
        process,
        lambda: next(tape).reshape(-1, *SHAPE),
    )
    return found.flatten(1)


def check(found: Tensor, run: str) -> None:
    assert (found - RUNS[run]["final"]).abs().max() < TOLERANCE


def in_basis(run: str) -> tuple[Tensor, Tensor]:
    """Singular values, one for each number of an image, and the right singular vectors in the rows."""
    _, values, right = torch.linalg.svd(DATA["problems"][run.split("/")[0]]["A"], full_matrices=True)
    return torch.nn.functional.pad(values, (0, 16 - len(values))), right


@pytest.mark.parametrize("name", named("ddrm"))
def test_ddrm(name: str) -> None:
    run = f"{name}/ddrm"
    recorded, noise = RUNS[run], DATA["problems"][name]["sigma_y"]
    values, right = in_basis(run)
    process = LinearSchedule()
    levels = [number * 50 for number in reversed(range(20))]

    def fresh() -> Iterator[Tensor]:
        """One draw for all directions: their code draws for three kinds of them one after the other."""
        draws = iter(recorded["tape"])
        for _, level in pairwise([*levels, -1]):
            u = torch.tensor(process.exact_rates(level)).flip(0)
            u = u[0] / u[1]
            everywhere, below, above = (next(draws).reshape(2, -1) for _ in range(3))
            drawn = everywhere.clone()
            low, high = (values > 0) & (values * u < noise), (values > 0) & (values * u > noise)
            if low.any():
                drawn[:, low] = below
            if high.any():
                drawn[:, high] = above[:, high[: above.shape[1]]]
            yield drawn @ right

    found = finish(DDRM(steps=20, eta=0.85), run, recorded["initial_noise"] @ right, fresh())
    check(found, run)


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("name", named("ddnm"))
def test_ddnm(name: str, plus: bool) -> None:
    run = f"{name}/{'ddnm_plus' if plus else 'ddnm'}"
    if run not in RUNS:
        pytest.skip("without noise DDNM+ is DDNM")
    check(finish(DDNM(25, plus=plus), run, RUNS[run]["initial_noise"], iter(RUNS[run]["tape"])), run)


@pytest.mark.parametrize("name", named("ddnm_time_travel"))
def test_ddnm_with_time_travel(name: str) -> None:
    run = f"{name}/ddnm_time_travel"
    solver = DDNM(25, plus=False, travel_length=2, travel_repeat=2)
    tape = iter(RUNS[run]["tape"])
    check(finish(solver, run, RUNS[run]["initial_noise"], tape), run)
    assert next(tape, None) is None
    assert solver.evaluations == 49


@pytest.mark.parametrize("given", ["uncond", "exact_conditional"])
@pytest.mark.parametrize("name", named("edm_heun_uncond"))
def test_heun(name: str, given: str) -> None:
    run = f"{name}/edm_heun_{given}"
    process = VarianceExploding(data_std=None)
    denoise = exact_denoiser(process, PRIOR if given == "uncond" else posterior(name))
    sampler = Heun(RUNS[run]["hyper"]["num_steps"], spacing=Karras())
    noise = RUNS[run]["initial_noise"].reshape(-1, *SHAPE)
    *_, last = sampler.sample(denoise, noise, process, lambda: noise)
    check(last.noisy.flatten(1), run)


@pytest.mark.parametrize("variant", ["pigdm", "pigdm_eta1"])
@pytest.mark.parametrize("name", named("pigdm"))
def test_pigdm(name: str, variant: str) -> None:
    run = f"{name}/{variant}"
    tape = iter(RUNS[run]["tape"])
    solver = PiGDM(25, eta=RUNS[run]["hyper"]["eta"], noise_aware=False)
    check(finish(solver, run, next(tape), tape), run)


@pytest.mark.parametrize("name", named("dps"))
def test_dps(name: str) -> None:
    run = f"{name}/dps"
    solver = DPS(50, scale=RUNS[run]["hyper"]["scale"], step_follows_norm=False)
    # Every second draw of theirs is not used.
    check(finish(solver, run, RUNS[run]["initial_noise"], iter(RUNS[run]["tape"][::2])), run)
    same = DPS(50, scale=RUNS[run]["hyper"]["scale"], step_follows_norm=False, spacing=Even())
    check(finish(same, run, RUNS[run]["initial_noise"], iter(RUNS[run]["tape"][::2])), run)


@pytest.mark.parametrize("name", named("reddiff"))
def test_red_diff(name: str) -> None:
    run = f"{name}/reddiff"
    tape = iter(RUNS[run]["tape"][1::2])
    # Asked for 60 steps their code takes every 16th level, which are 63.
    levels = list(range(0, 1000, 16))[::-1]
    # And it averages gradients over its batch of two.
    solver = REDDiff(63, spacing=GivenLevels(levels), adam_epsilon=2e-8)
    check(finish(solver, run, next(tape), tape), run)


@pytest.mark.parametrize("name", named("daps"))
def test_daps(name: str) -> None:
    run = f"{name}/daps"
    hyper = RUNS[run]["hyper"]
    solver = DAPS(6, 5, hyper["langevin"], learning_rate=hyper["lr"], step_follows_norm=False)
    process = VarianceExploding(largest_noise=200.0, least_noise=0.005, data_std=None)
    check(finish(solver, run, RUNS[run]["initial_noise"], iter(RUNS[run]["tape"]), process), run)


SOLVERS: list[ZeroShotSolver] = [
    DDRM(5), DDNM(5), DDNM(5, plus=False), PiGDM(5), PiGDM(5, noise_aware=False), DPS(5), REDDiff(5),
    DAPS(3, 2, 5), DDS(5),
]  # fmt: skip


def solved(solver: ZeroShotSolver, which: list[int], make: Callable[[list[int]], Any]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    process = LinearSchedule()

    def noise() -> Tensor:
        return torch.randn(8, *SHAPE, dtype=torch.float64, generator=generator)[which]

    return solver.solve(exact_denoiser(process), make(which), noise(), process, noise)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: f"{type(s).__name__} {s.needs and sorted(s.needs)[0]}")
def test_an_image_does_not_depend_on_the_batch(solver: ZeroShotSolver) -> None:
    measurements = torch.randn(8, 5, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def make(which: list[int]) -> Any:
        operator = operator_of("matrix_noisy", len(which))
        rows = operator.rows * (1 + torch.arange(8.0, dtype=torch.float64)[which]).view(-1, 1, 1, 1, 1) / 4
        scaled = operator._replace(rows=rows, inverse=operator.inverse)
        return linear_problem(type(operator)(*_with_inverse(scaled.rows)), measurements[which], 0.1)

    whole = solved(solver, list(range(8)), make)
    assert whole.std() > 0.01
    alone = torch.cat([solved(solver, [index], make) for index in range(8)])
    assert alone == pytest.approx(whole, abs=1e-9)


def _with_inverse(rows: Tensor) -> tuple[Tensor, Tensor]:
    return rows, torch.linalg.pinv(rows.flatten(2)).mT.reshape(rows.shape)


@pytest.mark.parametrize(
    "solver", [DDRM(40), DDNM(40), DDNM(40, travel_repeat=2), PiGDM(40), DDS(40)], ids=lambda s: type(s).__name__
)
def test_a_process_that_ends_before_the_levels_of_the_method_has_fewer_steps(solver: ZeroShotSolver) -> None:
    process = VarianceExploding(least_noise=0.05, largest_noise=20.0, data_std=None)
    assert len(solver.spacing.levels(40, process)) < 40
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(2, *SHAPE, dtype=torch.float64, generator=generator)

    found = solver.solve(exact_denoiser(process), problem("mask_noiseless", 2), noise(), process, noise)
    measured = problem("mask_noiseless", 2)
    residual = measured.operator.apply(found) - measured.measurement
    # Plain noise is off by more than one.
    assert residual.square().mean().sqrt() < 0.3
