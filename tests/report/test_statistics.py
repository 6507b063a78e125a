"""Intervals hold what they say, and compare runs as they should."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dfm_lightning.report.comparisons import (
    Score,
    comparable,
    difference,
    marks,
    shared_scenes,
    values_of,
    verdict,
)
from dfm_lightning.report.directions import direction_of
from dfm_lightning.report.runs import Run
from dfm_lightning.report.statistics import Estimate, mean_of, paired_difference, unpaired_difference

PSNR = Score("target", "psnr_mean")


def run(name: str, values: dict[str, float], score: Score = PSNR, **more: object) -> Run:
    scenes = {key: {score.role: {score.name: value}} for key, value in values.items()}
    return Run(name, Path(name), "test", {}, scenes=scenes, **more)


def scenes(seed: int, count: int = 40, centre: float = 20.0) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    return {f"{number}": float(value) for number, value in enumerate(rng.normal(centre, 2, count))}


def test_the_interval_is_scipys() -> None:
    values = list(scenes(0).values())
    found = mean_of(values)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.04)
    assert mean_of(values) == found, "the seed is fixed"
    assert mean_of([3.0]) == Estimate(3.0, None, None, 1)


def test_intervals_cover_the_true_mean() -> None:
    held = 0
    for seed in range(300):
        found = mean_of(list(scenes(seed).values()))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 20.0 <= found.high
    # 95% less what percentiles of 40 values lose, within three standard errors.
    assert 0.89 <= held / 300 <= 0.98


def noisy(values: dict[str, float], shift: float, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    return {key: value + shift + float(rng.normal(0, 0.3)) for key, value in values.items()}


def test_a_model_ties_with_itself_and_a_broken_one_loses() -> None:
    values = scenes(0)
    first, same = run("a", values), run("b", dict(values))
    found = difference(first, same, PSNR)
    assert found == Estimate(0.0, 0.0, 0.0, 40)
    assert verdict(found, 1) == "tie"
    assert marks([first, same], PSNR) == ["", ""], "none is best"
    reseeded = [difference(first, run("c", noisy(values, 0, seed)), PSNR) for seed in range(100)]
    differ = sum(estimate is not None and verdict(estimate, 1) != "tie" for estimate in reseeded)
    assert 1 <= differ <= 13, "about one in twenty"
    for seed in range(20):
        found = difference(run("d", noisy(values, -1, seed)), first, PSNR)
        assert found is not None
        assert verdict(found, 1) == "worse"
        assert verdict(found, -1) == "better"
        assert found.mean == pytest.approx(-1, abs=0.2)


def test_the_best_is_marked_and_what_ties_with_it() -> None:
    values = scenes(0)
    again = {key: value + (0.2 if int(key) % 2 else -0.21) for key, value in values.items()}
    runs = [run("a", values), run("b", again), run("c", noisy(values, -1, 0))]
    assert marks(runs, PSNR) == ["best", "tie", ""]
    assert marks([run(each.name, values_of(each, PSNR), Score("target", "spread")) for each in runs],
                 Score("target", "spread")) == ["", "", ""]  # fmt: skip
    assert marks([run(each.name, values_of(each, PSNR), Score("target", "rmse")) for each in runs],
                 Score("target", "rmse")) == ["", "", "best"]  # fmt: skip


def test_pairs_show_what_the_scatter_of_scenes_hides() -> None:
    values = scenes(0)
    broken = noisy(values, -1, 0)
    # The same difference is lost in the scatter of the scenes if they are not paired.
    apart = unpaired_difference(list(broken.values())[:10], list(values.values())[10:20])
    pairs = paired_difference(list(broken.values())[:10], list(values.values())[:10])
    assert pairs.excludes_zero
    assert apart.high is not None
    assert apart.low is not None
    assert apart.high - apart.low > 2 * (pairs.high or 0) - 2 * (pairs.low or 0)


def test_unpaired_intervals_are_welchs() -> None:
    first, second = list(scenes(1).values()), list(scenes(2, 60, 21).values())
    found = unpaired_difference(first, second)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.15)


def test_scenes_of_other_data_are_not_paired() -> None:
    first, second = run("a", scenes(0, 3)), run("b", scenes(1, 3))
    assert len(shared_scenes(first, second)) == 3
    ones = [{key: {"target": f"1x2: {n} 1"} for key in first.scenes} for n in (1, 2)]
    first, second = (dataclasses.replace(r, sketches=s) for r, s in zip((first, second), ones, strict=True))
    assert shared_scenes(first, second) == []
    assert difference(first, second, PSNR) is None


def test_tests_without_a_common_score_are_apart() -> None:
    first, second, third = run("a", scenes(0)), run("b", scenes(0)), run("c", scenes(0), Score("code", "distance"))
    assert [[each.name for each in group] for group in comparable([first, third, second])] == [["a", "b"], ["c"]]
    other = dataclasses.replace(second, settings={"report": "MotionReport"})
    assert len(comparable([first, other])) == 2


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("psnr_mean", 1), ("psnr_of_mean", 1), ("ssim_best", 1), ("agree", 1), ("lpips_mean", -1), ("fid", -1),
        ("epe_mean", -1), ("rmse_of_mean", -1), ("energy_score", -1), ("distance_error", -1), ("spread", 0),
        ("total_variation", -1), ("total_variation_low", 0), ("standard_error", 0), ("repeat_context_psnr", 0),
        ("epe_no_motion", 0), ("mean_code_psnr", 0), ("coverage_expected", 0), ("holes", 0),
    ],
)  # fmt: skip
def test_directions(name: str, direction: int) -> None:
    assert direction_of(name) == direction
