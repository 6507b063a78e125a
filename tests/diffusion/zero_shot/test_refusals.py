"""What zero-shot solvers do not solve is refused in one line; gradients are taken where Lightning allows none."""

import pytest
import torch
from known_problems import SHAPE, LinearSchedule, exact_denoiser, operator_of, problem
from torch import Tensor

from dfm_lightning.diffusion import CosineProcess, VarianceExploding
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
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import Ability, Matrix

ALL = [DDRM(3), DDNM(3), PiGDM(3), DPS(3), DAPS(2, 2, 2), REDDiff(3), DDS(3)]


class Poor(Matrix):
    """A matrix that offers less than others."""

    offered: frozenset[Ability] = frozenset()

    @property
    def abilities(self) -> frozenset[Ability]:
        return self.offered


def noise(count: int = 2) -> Tensor:
    return torch.randn(count, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def solve(solver: ZeroShotSolver, given: object, count: int = 2) -> Tensor:
    process = LinearSchedule()
    return solver.solve(exact_denoiser(process), given, noise(count), process, lambda: noise(count))


@pytest.mark.parametrize(
    ("measurement", "deviation", "message"),
    [
        (torch.full((2, 5, 1, 1), float("nan")), 0.1, "not finite"),
        (torch.zeros(2, 0, 1, 1), 0.1, "empty"),
        (torch.zeros(2, 6, 1, 1), 0.1, r"shape \(2, 6, 1, 1\)"),
        (torch.zeros(3, 5, 1, 1), 0.1, r"shape \(3, 5, 1, 1\)"),
        (torch.zeros(2, 5, 1, 1), -0.1, "σ_y.*-0.1"),
        (torch.zeros(2, 5, 1, 1), float("nan"), "σ_y.*nan"),
    ],
)
def test_measurements_that_are_none(measurement: Tensor, deviation: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        linear_problem(operator_of("matrix_noisy", 2), measurement, deviation)


@pytest.mark.parametrize("solver", ALL, ids=lambda s: type(s).__name__)
def test_an_operator_without_what_a_solver_needs(solver: ZeroShotSolver) -> None:
    given = problem("matrix_noisy", 2)
    with pytest.raises(UserError, match=rf"{type(solver).__name__}.*Poor") as caught:
        solve(solver, given._replace(operator=Poor(*given.operator)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("solver", ALL, ids=lambda s: type(s).__name__)
def test_what_a_solver_names_is_all_that_it_needs(solver: ZeroShotSolver, monkeypatch: pytest.MonkeyPatch) -> None:
    given = problem("matrix_noisy", 2)
    monkeypatch.setattr(Poor, "offered", solver.needed(given))
    poor = Poor(*given.operator)

    def forbidden(*_: object) -> Tensor:
        raise AssertionError("not offered")

    if "adjoint" not in poor.abilities:
        monkeypatch.setattr(Poor, "adjoint", forbidden)
    if "pseudo-inverse" not in poor.abilities:
        monkeypatch.setattr(Poor, "pseudo_inverse", forbidden)
    if "singular values" not in poor.abilities:
        monkeypatch.setattr(Poor, "decompose", forbidden)
    assert solve(solver, given._replace(operator=poor)).shape == (2, *SHAPE)


def test_images_of_another_size_than_the_operators() -> None:
    process = LinearSchedule()
    with pytest.raises(UserError, match=r"\(1, 4, 4\)"):
        DDNM(3).solve(exact_denoiser(process), problem("matrix_noisy", 2), noise(3), process, noise)


def test_a_divergence_is_told() -> None:
    with pytest.raises(UserError, match="DAPS"):
        solve(DAPS(30, 2, 100, learning_rate=1e3), problem("matrix_noisy", 2))


@pytest.mark.parametrize("solver", ALL, ids=lambda s: type(s).__name__)
def test_inference_mode_is_no_hindrance(solver: ZeroShotSolver) -> None:
    with torch.inference_mode():
        inside = solve(solver, problem("matrix_noisy", 2))
    assert inside == pytest.approx(solve(solver, problem("matrix_noisy", 2)))


@pytest.mark.parametrize(
    "process", [CosineProcess(), VarianceExploding(data_std=None)], ids=["cosine", "exploding"]
)
@pytest.mark.parametrize("solver", [DDRM(20), DDNM(20), PiGDM(20), DDS(20)], ids=lambda s: type(s).__name__)
def test_any_process_serves(solver: ZeroShotSolver, process: CosineProcess | VarianceExploding) -> None:
    """On levels of the same noise the images are those on DDPM's levels, nearly."""
    given = problem("matrix_noisy", 64)
    draws = torch.Generator().manual_seed(3)

    def fresh() -> Tensor:
        return torch.randn(64, *SHAPE, dtype=torch.float64, generator=draws)

    found = solver.solve(exact_denoiser(process), given, noise(64), process, fresh)
    draws.manual_seed(3)
    reference = LinearSchedule()
    expected = solver.solve(exact_denoiser(reference), given, noise(64), reference, fresh)
    assert found.mean(0) == pytest.approx(expected.mean(0), abs=0.25)


def test_pigdm_by_conjugate_gradients_is_pigdm_by_singular_values(monkeypatch: pytest.MonkeyPatch) -> None:
    given = problem("illposed_noisy", 2)
    monkeypatch.setattr(Poor, "offered", frozenset({"adjoint", "pseudo-inverse"}))
    poor = solve(PiGDM(10), given._replace(operator=Poor(*given.operator)))
    assert poor == pytest.approx(solve(PiGDM(10), given), abs=1e-4)
