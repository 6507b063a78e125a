"""Spacings against their formulas, on processes of any number of levels."""

from itertools import pairwise

import numpy as np
import pytest

from dfm_lightning.diffusion import (
    AlignYourSteps,
    CosineProcess,
    Even,
    GivenLevels,
    Karras,
    Leading,
    LogSNR,
    NoiseProcess,
    Quadratic,
    Spacing,
    Trailing,
    VarianceExploding,
    VariancePreserving,
)

SPACINGS = [
    Trailing(),
    Trailing(clipped=True),
    Leading(),
    Even(),
    Even(last=20),
    Quadratic(),
    Quadratic(last=0),
    LogSNR(),
    LogSNR(last=4),
    Karras(),
    Karras(last=2, rho=3),
    AlignYourSteps(),
]
every_spacing = pytest.mark.parametrize("spacing", SPACINGS, ids=lambda spacing: type(spacing).__name__)


@every_spacing
@pytest.mark.parametrize("levels", [1000, 250])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 15, 50, 100])
def test_levels_are_integers_without_duplicates(spacing: Spacing, levels: int, steps: int) -> None:
    found = spacing.levels(steps, CosineProcess(levels))
    assert len(found) == steps
    assert all(isinstance(level, int) for level in found)
    assert found[0] < levels
    assert found[-1] >= 0
    assert all(current > following for current, following in pairwise(found))


@every_spacing
@pytest.mark.parametrize("process", [VariancePreserving(), VarianceExploding()], ids=["preserving", "exploding"])
def test_levels_fall_on_continuous_processes_too(spacing: Spacing, process: NoiseProcess) -> None:
    found = spacing.levels(12, process)
    assert len(found) == 12
    assert 0 <= found[-1] < found[0] <= process.last_level
    assert all(current > following for current, following in pairwise(found))


@pytest.mark.parametrize("levels", [1000, 250])
def test_spacings_begin_where_the_noise_is_not_extreme(levels: int) -> None:
    process = CosineProcess(levels)
    first = max(level for level in range(levels) if process.log_ratio(level) >= -5.1)
    assert first == {1000: 995, 250: 248}[levels]
    for spacing in (Trailing(clipped=True), Even(), Quadratic(), LogSNR(), Karras()):
        assert spacing.levels(9, process)[0] == first


def test_quadratic_levels_are_those_of_the_formula() -> None:
    expected = [round(4 + 991 * (1 - index / 7) ** 2) for index in range(8)]
    assert Quadratic().levels(8, CosineProcess()) == expected
    assert expected[-1] == 4


def test_log_snr_and_karras_levels_are_even_in_their_variable() -> None:
    for process in (VariancePreserving(), VarianceExploding()):
        ratios = [process.log_ratio(level) for level in LogSNR(last=10).levels(9, process)]
        np.testing.assert_allclose(np.diff(ratios), np.diff(ratios)[0], rtol=1e-6)
        roots = [np.exp(-process.log_ratio(level) / 7) for level in Karras(last=10).levels(9, process)]
        np.testing.assert_allclose(np.diff(roots), np.diff(roots)[0], rtol=1e-6)


def test_what_rounds_to_the_same_level_moves_to_free_ones_next_to_it() -> None:
    process = CosineProcess(250)
    nominal = [process.level_at(float(v)) for v in np.linspace(process.log_ratio(248), process.log_ratio(0), 50)]
    rounded = [round(level) for level in nominal]
    assert len(set(rounded)) < 50, "the test would not see duplicates"
    found = LogSNR().levels(50, process)
    assert max(abs(a - b) for a, b in zip(found, rounded, strict=True)) <= 8
    assert (found[0], found[-1]) == (rounded[0], rounded[-1])


def test_the_published_list_is_kept_and_carried_to_other_processes() -> None:
    published = [995, 920, 811, 686, 555, 418, 315, 174, 109, 12, 0]
    assert AlignYourSteps().levels(11, CosineProcess()) == published
    assert AlignYourSteps().levels(10, CosineProcess()) == published[:-1]
    coarse, process = CosineProcess(250), CosineProcess()
    for level, of in zip(AlignYourSteps().levels(10, coarse), published, strict=False):
        assert coarse.log_ratio(level) == pytest.approx(process.log_ratio(of), abs=0.3)


@pytest.mark.parametrize(
    ("spacing", "steps", "name"),
    [
        (Even(last=998), 5, "last"),
        (Even(last=993), 5, "exceed"),
        (Trailing(), 1001, "1001 sampling steps exceed the 1000 levels"),
        (Trailing(clipped=True), 999, "exceed"),
        (GivenLevels([1000, 4]), 2, "1000"),
        (GivenLevels([10, 4.5]), 2, "4.5"),
        (GivenLevels([10, 4]), 3, "steps is 3"),
    ],
)
def test_levels_that_a_process_lacks_are_refused(spacing: Spacing, steps: int, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        spacing.levels(steps, CosineProcess())


@pytest.mark.parametrize(
    ("levels", "name"), [([], "at least one"), ([5, 5], "5 follows 5"), ([3, 7], "7 follows 3"), ([3, -1], "-1")]
)
def test_lists_that_do_not_fall_to_level_0_are_refused(levels: list[int], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        GivenLevels(levels)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="last"):
        Quadratic(last=-1)
    with pytest.raises(ValueError, match="rho"):
        Karras(rho=0)
