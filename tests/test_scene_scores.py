"""Scores are averaged scene by scene, each scene once, whichever process was given it."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ball_scenes import BallDenoiser, batch, renderer
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from dfm_lightning import scene_scores
from dfm_lightning.callbacks import ScoreReport
from dfm_lightning.diffusion import DDIM
from dfm_lightning.errors import UserError
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.scene_scores import SceneScores, scores_in


def gathered(monkeypatch: pytest.MonkeyPatch, *parts: SceneScores) -> dict[str, float]:
    """What each of some processes makes of all; the same."""
    monkeypatch.setattr(
        scene_scores, "_from_all_processes", lambda mine: [(part.scenes, part.logged) for part in parts]
    )
    first, *others = [part.gathered().averages() for part in parts]
    assert all(other == first for other in others)
    return first


def process(*batches: dict[str, float]) -> SceneScores:
    scores = SceneScores()
    for scenes in batches:
        scores.begin_batch(scenes)
        for key, value in scenes.items():
            scores.add(key, {"error": value})
            scores.log("test/each", value, 1, "mean")
        scores.log("test/batch", sum(scenes.values()) / len(scenes), None, "mean")
        scores.log("test/worst", max(scenes.values()), None, "max")
    return scores


def test_the_processes_change_no_average(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = process({"a": 0.1, "b": 0.2}, {"c": 0.7})
    expected = {"test/error": 1 / 3, "test/each": 1 / 3, "test/batch": 1 / 3, "test/worst": 0.7}
    assert gathered(monkeypatch, alone) == pytest.approx(expected)
    # Shared out unevenly, with a process that has nothing, and with a scene that two were given.
    shares = process({"a": 0.1, "b": 0.2}), process({"c": 0.7}), process()
    assert gathered(monkeypatch, *shares) == gathered(monkeypatch, process({"a": 0.1, "b": 0.2}, {"c": 0.7}))
    repeated = process({"a": 0.1}, {"b": 0.2}), process({"c": 0.7}, {"a": 0.1})
    assert gathered(monkeypatch, *repeated)["test/each"] == pytest.approx(1 / 3)
    assert gathered(monkeypatch, process({"b": 0.2}), process({"a": 0.1}))["test/error"] == pytest.approx(0.15)


def test_a_score_that_a_scene_lacks_is_left_out_of_the_average() -> None:
    scores = SceneScores()
    scores.add("a", {"error": torch.tensor(1.0), "pitch": 2})
    scores.add("b", {"error": 3.0})
    assert scores.averages() == {"test/error": 2.0, "test/pitch": 2.0}


@pytest.mark.parametrize(
    "wrong", [{"scores": [1.0]}, {"scores": {"a": 1.0}}, {"scores": {"a": {"e": torch.ones(2)}}}]
)
def test_what_is_no_score_is_named(wrong: Any) -> None:
    with pytest.raises(UserError, match=r"\{key: \{name: number\}\}|'e' of scene 'a' .* shape \(2,\)"):
        scores_in(wrong)


class Own(DiffusionWithForwardModel):
    """Logs by batch, by step and at the end."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test/number", float(batch_idx), on_step=True, on_epoch=True)
        self.log_dict({"test/last": float(batch_idx)}, reduce_fx="max", sync_dist=True)

    def on_test_epoch_end(self) -> None:
        self.log("test/at_the_end", 5.0)
        super().on_test_epoch_end()


def scores_of(model: DiffusionWithForwardModel, *callbacks: Callback) -> Mapping[str, float]:
    data = DataLoader([batch(["a", "b"]), batch(["c"])], batch_size=None)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=list(callbacks),
    )  # fmt: skip
    return trainer.test(model, data, verbose=False)[0]


def model(kind: type[DiffusionWithForwardModel] = DiffusionWithForwardModel) -> DiffusionWithForwardModel:
    torch.manual_seed(0)
    return kind(BallDenoiser(), renderer(), sampler=DDIM(2), samples=2)


def test_what_a_test_of_ones_own_logs_counts_scene_by_scene() -> None:
    found = scores_of(model(Own))
    # Two scenes of batch 0, one of batch 1.
    assert found["test/number"] == pytest.approx(1 / 3)
    assert found["test/last"] == 1.0
    assert found["test/at_the_end"] == 5.0


class Killer(Callback):
    """Ends a run before its second batch."""

    def on_test_batch_start(self, *args: Any) -> None:
        if args[3] == 1:
            raise RuntimeError("killed")


def test_the_report_of_any_problem_goes_on_where_it_stopped(tmp_path: Path) -> None:
    expected = scores_of(model(), ScoreReport(str(tmp_path / "once")))
    with pytest.raises(RuntimeError, match="killed"):
        scores_of(model(), ScoreReport(str(tmp_path / "twice")), Killer())
    again = model()
    assert scores_of(again, ScoreReport(str(tmp_path / "twice"))) == expected
    assert len(again.denoiser.conditioned_on) == 2
    once, twice = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("once", "twice"))
    assert once == twice
    mean = sum(once["scenes"][key]["all"]["rmse_mean"] for key in "abc") / 3
    assert once["average"]["all"]["rmse_mean"] == pytest.approx(mean)
    assert expected["test/rmse_mean"] == pytest.approx(mean)
    rows = list(csv.DictReader((tmp_path / "once" / "report.csv").open()))
    assert [row["scene"] for row in rows] == ["a", "b", "c", "average", "standard error"]
    each = [once["scenes"][key]["all"]["rmse_mean"] for key in "abc"]
    error = np.std(each, ddof=1) / 3**0.5
    assert once["standard_error"]["all"]["rmse_mean"] == pytest.approx(error)
    assert float(rows[-1]["rmse_mean"]) == pytest.approx(error)
    page = (tmp_path / "once" / "index.html").read_text()
    assert "rmse of mean" in page
    assert f"{mean:.3f} ± {error:.3f}" in page
    assert "<img" not in page


def test_the_report_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="test_step"):
        scores_of(model(Own), ScoreReport(str(tmp_path)))


class Grouped(DiffusionWithForwardModel):
    """Puts its scenes into groups."""

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        values = {"a": 1.0, "b": 2.0, "c": 4.0}
        return {
            "scores": {key: {"error": values[key]} for key in batch.key},
            "groups": {key: "blur" if key == "b" else "mask" for key in batch.key},
        }


def test_scores_are_averaged_by_group_too(tmp_path: Path) -> None:
    scores_of(model(Grouped), ScoreReport(str(tmp_path)))
    average = json.loads((tmp_path / "report.json").read_text())["average"]
    found = {group: scores["error"] for group, scores in average.items()}
    assert found == pytest.approx({"all": 7 / 3, "mask": 2.5, "blur": 2.0})
