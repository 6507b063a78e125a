"""Every sampler and spacing against what the code of others computed, and against the exact solution."""

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from known_mixture import ExactDenoiser, Mixture, reference, sampler_named
from torch import Tensor

from dfm_lightning import diffusion
from dfm_lightning.diffusion import (
    AlignYourSteps,
    CosineProcess,
    Even,
    GivenLevels,
    Karras,
    Leading,
    LogSNR,
    Quadratic,
    Sampler,
    Spacing,
    Trailing,
    UniPC,
)

REFERENCE = reference()
MIXTURE = Mixture(REFERENCE["weights"], REFERENCE["means"], REFERENCE["stds"])
SPACINGS: dict[str, Spacing] = {
    "project": Trailing(),
    "from_clip": Trailing(clipped=True),
    "to_zero": Even(),
    "logsnr": LogSNR(),
    "karras": Karras(),
    "ays": AlignYourSteps(),
    "leading": Leading(),
}
# As published these end with a combination of several estimates, which is an observation of no signal.
ENDS_OTHERWISE = ("ipndm_4", "plms_4", "f_pndm", "ghvb", "hb", "deis_2_rho", "deis_3_rho")


def draws(noise: Tensor) -> Callable[[], Tensor]:
    drawn = iter(noise)
    return lambda: next(drawn)


def run(sampler: Sampler, process: CosineProcess) -> tuple[Tensor, ExactDenoiser]:
    """The sample, and what the denoiser was asked and said."""
    denoise = MIXTURE.denoiser(process)
    *_, last = sampler.sample(denoise, REFERENCE["x_T"], process, draws(REFERENCE["noise"]))
    return last.noisy, denoise


def rms(difference: Tensor) -> float:
    return difference.square().mean().sqrt().item()


@pytest.mark.parametrize("name", REFERENCE["runs"])
def test_every_evaluation_is_that_of_the_reference(name: str) -> None:
    expected: dict[str, Any] = REFERENCE["runs"][name]
    method, spacing, steps = name.split("/")
    sampler = sampler_named(method, int(steps), SPACINGS[spacing])
    process = CosineProcess()
    visited = expected["levels"].tolist()
    if method == "plms_4":  # lists the level at which the step is repeated twice
        del visited[1]
    assert sampler.levels(process) == visited
    sample, denoise = run(sampler, process)
    assert denoise.levels == expected["evaluated"].tolist()
    assert len(denoise.levels) == sampler.evaluations
    # k-diffusion's Heun steps from ρ = 20,000 lose digits.
    tolerance = 1e-8 if method == "heun" else 1e-11
    torch.testing.assert_close(torch.stack(denoise.estimates), expected["clean"], rtol=0, atol=tolerance)
    assert torch.equal(sample, denoise.estimates[-1])


@pytest.mark.parametrize("method", REFERENCE["errors"])
def test_errors_are_those_of_the_reference(method: str) -> None:
    process = CosineProcess()
    for spacing, errors in REFERENCE["errors"][method].items():
        for steps, expected in errors.items():
            sampler = sampler_named(method, steps, SPACINGS[spacing])
            exact = REFERENCE["exact"][str(sampler.levels(process)[0])]
            error = rms(run(sampler, process)[0] - exact)
            if method.startswith(ENDS_OTHERWISE) and method != "ipndm_4_first":
                assert error < max(2.5 * expected, 0.05)
            else:
                assert error == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("levels", [1000, 250])
def test_the_exact_solution_is_that_of_the_reference_on_any_number_of_levels(levels: int) -> None:
    process = CosineProcess(levels)
    for level in (levels - 1, levels // 2):
        solved = MIXTURE.solution(REFERENCE["x_T"], process.exact_rates(level), (1.0, 0.0))
        if levels == 1000 and level == 999:
            torch.testing.assert_close(solved, REFERENCE["exact"]["999"], rtol=0, atol=1e-6)
        # Many steps from any level lead there: every other level, and all of the last ones.
        visited = [down for down in range(level, -1, -1) if down % 2 == 1 or down < 40]
        sampler = UniPC(len(visited), spacing=GivenLevels(visited), uneven_below=0)
        assert rms(run(sampler, process)[0] - solved) < 1e-3


def test_better_levels_bring_more_than_higher_order() -> None:
    # The first-order jump from level T/N − 1 to clean limits every method on DFM's levels.
    process = CosineProcess()

    def error(method: str, steps: int, spacing: Spacing) -> float:
        sampler = sampler_named(method, steps, spacing)
        exact = solution_from(int(sampler.levels(process)[0]))
        return rms(run(sampler, process)[0] - exact)

    for method in ("dpmpp_2m", "dpmpp_3m", "unipc_2", "unipc_3", "ipndm_4", "exp_heun"):
        assert 0.02 < error(method, 15, Trailing()) < 0.026
    assert error("ddim", 15, Trailing()) == pytest.approx(0.046, abs=0.001)
    assert error("unipc_2", 15, Quadratic()) < 0.5 * error("unipc_2", 15, Trailing())


DOCUMENT = Path(__file__).parents[2] / "docs" / "notes" / "sampling.md"
ROWS = re.findall(r"^\| `(\w+)\((.*)\)` \| `(.*)` \| ([\d. |]+) \|$", DOCUMENT.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("kind", "settings", "spacing", "errors"), ROWS)
def test_the_documented_errors_are_what_samplers_do(kind: str, settings: str, spacing: str, errors: str) -> None:
    process, names = CosineProcess(), vars(diffusion)
    for steps, expected in zip((4, 6, 8, 10, 15, 20, 50), errors.split(" | "), strict=True):
        visited = eval(spacing, dict(names))
        sampler = eval(
            f"{kind}(steps, spacing=visited, {settings})", {**names, "steps": steps, "visited": visited}
        )
        exact = solution_from(int(sampler.levels(process)[0]))
        assert rms(run(sampler, process)[0] - exact) == pytest.approx(float(expected), abs=6e-5)


def test_the_table_is_read() -> None:
    assert len(ROWS) > 15


@lru_cache
def solution_from(level: int) -> Tensor:
    return MIXTURE.solution(REFERENCE["x_T"], CosineProcess().exact_rates(level), (1.0, 0.0))
