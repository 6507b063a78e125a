"""The report counts each scene once, scores what it says it scores, and goes on after an interruption."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ball_scenes import BallDenoiser, batch, renderer
from few_numbers import FewNumbers
from lightning.pytorch import Callback, LightningDataModule, Trainer
from PIL import Image
from torch import Tensor

from dfm_lightning.callbacks import SceneReport
from dfm_lightning.callbacks.contact_sheet import contact_sheet
from dfm_lightning.callbacks.report_tables import as_csv, average_scores
from dfm_lightning.callbacks.scene_scores import score_scene
from dfm_lightning.callbacks.stored_scores import merge_scores
from dfm_lightning.diffusion import DDIM
from dfm_lightning.errors import UserError
from dfm_lightning.metrics import ImageMetrics, compare_features, psnr, spread
from dfm_lightning.tasks import EvaluatedScene, InverseGraphics

SIZE = 16


@pytest.fixture(autouse=True)
def _no_lpips(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("empty")))


def scene(samples: int = 3, known: dict[str, Tensor] | None = None) -> EvaluatedScene:
    generator = torch.Generator().manual_seed(0)

    def images(*shape: int) -> Tensor:
        return torch.rand(*shape, SIZE, SIZE, generator=generator) * 2 - 1

    roles = ["context", "target", "novel", "novel"]
    seen = torch.zeros(4, 1, SIZE, SIZE, dtype=torch.bool)
    seen[:, :, :5] = True
    views = images(4, 3), images(samples, 4, 3), images(samples, 4, 1) + 3, images(4, 3), images(4, 1) + 3
    return EvaluatedScene("a", roles, *views, seen, known or {})


def test_scores_of_a_scene() -> None:
    given, mean_image = scene(), torch.full((3, SIZE, SIZE), 0.1)
    scores = score_scene(given, ImageMetrics(), mean_image)
    assert list(scores) == ["context", "target", "novel"]
    novel = scores["novel"]
    truth = given.truth[2:]
    of_samples = torch.stack([psnr(sample[2:], truth).mean() for sample in given.samples])
    expected = {
        "psnr_best": of_samples.max(),
        "psnr_mean": of_samples.mean(),
        "spread": spread(given.samples[:, 2:]).mean(),
        "spread_seen": spread(given.samples[:, 2:, :, :5]).mean(),
        "spread_hidden": spread(given.samples[:, 2:, :, 5:]).mean(),
        "psnr_seen": psnr(
            given.samples[:, 2:, :, :5].transpose(1, 2).flatten(2, 3),
            truth[:, :, :5].transpose(0, 1).flatten(1, 2).repeat(3, 1, 1, 1),
        ).mean(),
        "mean_psnr": psnr(given.samples[:, 2:].mean(dim=0), truth).mean(),
        "estimate_psnr": psnr(given.estimate[2:], truth).mean(),
        "repeat_context_psnr": psnr(given.truth[:1].repeat(2, 1, 1, 1), truth).mean(),
        "mean_image_psnr": psnr(mean_image.repeat(2, 1, 1, 1), truth).mean(),
    }
    assert {name: novel[name] for name in expected} == pytest.approx(
        {name: value.item() for name, value in expected.items()}
    )
    assert not any("repeat" in name or "mean_image" in name for name in scores["context"])
    assert not any("lpips" in name for name in novel)
    assert "spread" not in score_scene(scene(samples=1), ImageMetrics(), None)["target"]


def test_distances_are_compared_where_the_true_ones_are_known() -> None:
    true = torch.zeros(4, 1, SIZE, SIZE)
    true[2, 0, 3, 4], true[3, 0, 0, 0] = 2.0, 4.0
    given = scene(known={"distance": true})
    scores = score_scene(given, ImageMetrics(), None)
    for name, depths in (
        ("distance_error", given.sample_depths),
        ("estimate_distance_error", given.estimate_depth),
    ):
        first, second = depths[..., 2, 0, 3, 4], depths[..., 3, 0, 0, 0]
        expected = ((first / 2 - 1).abs() + (second / 4 - 1).abs()) / 2
        assert scores["novel"][name] == pytest.approx(expected.mean().item(), rel=1e-5)
        assert name not in scores["target"]
    assert "distance_error" not in score_scene(scene(), ImageMetrics(), None)["novel"]


def test_average_and_table_say_what_is_missing() -> None:
    scenes = {"a": {"target": {"psnr_mean": 10.0, "spread": 0.1}}, "b": {"target": {"psnr_mean": 20.0}}}
    average = average_scores(scenes.values())
    assert average == {"target": {"psnr_mean": 15.0, "spread": 0.1}}
    rows = list(csv.DictReader(io.StringIO(as_csv(scenes, average, {"target": {"fid": 3.0}}))))
    assert [row["scene"] for row in rows] == ["a", "b", "average", "standard error", "joint"]
    assert rows[4]["fid"] == "3.0"
    # Of 10 and 20; of one value there is none.
    assert (rows[3]["psnr_mean"], rows[3]["spread"]) == ("5.0", "missing")
    assert rows[1]["spread"] == "missing"
    assert rows[2]["psnr_mean"] == "15.0"


def test_scenes_of_several_processes_count_once() -> None:
    first = {"b": {"target": {"psnr_mean": 10.0}}, "a": {"target": {"psnr_mean": 1.0}}}
    second = {"c": {"target": {"psnr_mean": 4.0}}, "a": {"target": {"psnr_mean": 1.0}}}
    merged = merge_scores([first, second, {}])
    assert list(merged) == ["a", "b", "c"]
    assert average_scores(merged.values())["target"]["psnr_mean"] == 5.0


def test_contact_sheet_holds_truth_estimate_and_samples() -> None:
    given = scene()
    sheet = contact_sheet(given, cell=SIZE)
    assert sheet.shape[1] == 90 + (1 + 2 + 3 * 2) * (SIZE + 4)
    top, left = 18, 90
    first = sheet[top : top + SIZE, left : left + SIZE]
    expected = (given.truth[0].permute(1, 2, 0).numpy() + 1) * 127.5
    np.testing.assert_allclose(first, expected, atol=0.51)
    third_sample = sheet[top + SIZE + 4 : top + 2 * SIZE + 4, left + 7 * (SIZE + 4) : left + 8 * (SIZE + 4) - 4]
    expected = (given.samples[2, 1].permute(1, 2, 0).numpy() + 1) * 127.5
    np.testing.assert_allclose(third_sample, expected, atol=0.51)


class Scenes(LightningDataModule):
    """Three scenes, one of them twice, as when processes are given equally many."""

    def __init__(self, novel: int = 2) -> None:
        super().__init__()
        self.batches = [batch(["a", "b"], novel=novel), batch(["c"], novel=novel), batch(["a"], novel=novel)]

    def test_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(self.batches, batch_size=None)

    def mean_image(self) -> Tensor:
        return torch.zeros(3, 8, 8)


class Config(Callback):
    """Holds the config, as the command line's callback does."""

    def __init__(self) -> None:
        self.config = {"model": {"samples": 2}}


class Killer(Callback):
    """Ends a run before a batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_test_batch_start(self, *args: Any) -> None:
        if args[3] == self.batch:
            raise RuntimeError("killed")


def run(
    output: Path,
    data: Scenes | None = None,
    killed_at: int = -1,
    report: dict[str, Any] | None = None,
    **options: Any,
) -> InverseGraphics:
    torch.manual_seed(0)
    model = InverseGraphics(BallDenoiser(), renderer(), sampler=DDIM(steps=2), **{"samples": 2, **options})
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[SceneReport(str(output), **(report or {})), Config(), Killer(killed_at)],
    )  # fmt: skip
    trainer.test(model, datamodule=data or Scenes(), verbose=False)
    return model


def test_report_files(tmp_path: Path) -> None:
    model = run(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["scenes"]) == ["a", "b", "c"], "the repeated scene counts once"
    assert model.denoiser.conditioned_on == [1, 1], "and is drawn once"
    settings = report["settings"]
    assert settings["scenes"] == 3
    assert settings["resolution"] == [8, 8]
    assert settings["samples"] == 2
    assert settings["sampler.steps"] == 2
    assert settings["config"] == {"model": {"samples": 2}}
    assert {"seed", "weights", "checkpoint", "guidance_scale", "processes"} <= set(settings)
    assert "vgg16" in report["missing"]["lpips"]
    mean = sum(report["scenes"][key]["novel"]["psnr_mean"] for key in "abc") / 3
    assert report["average"]["novel"]["psnr_mean"] == pytest.approx(mean)

    (evaluated,) = model.eval().test_step(batch(["c"]), 0)["scenes"]
    expected = score_scene(evaluated, ImageMetrics(), torch.zeros(3, 8, 8))
    assert report["scenes"]["c"]["target"] == pytest.approx(expected["target"], rel=1e-5)

    rows = list(csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text())))
    assert [row["scene"] for row in rows].count("a") == 3
    assert [row["scene"] for row in rows].count("average") == 3
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == ["a.png", "b.png", "c.png"]
    assert np.asarray(Image.open(tmp_path / "sheets" / "a.png")).shape[2] == 3
    assert 'src="sheets/b.png"' in (tmp_path / "index.html").read_text()


def test_an_interrupted_test_goes_on(tmp_path: Path) -> None:
    run(tmp_path / "once")
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "twice", killed_at=1)
    assert not (tmp_path / "twice" / "report.json").exists()
    again = run(tmp_path / "twice")
    assert again.denoiser.conditioned_on == [1], "only the third scene was left"
    once, twice = ((tmp_path / name / "report.json").read_text() for name in ("once", "twice"))
    assert json.loads(once) == json.loads(twice)


@pytest.mark.parametrize("change", [{"data": Scenes(novel=1)}, {"samples": 3}, {"report": {"sheet_cell": 32}}])
def test_what_is_measured_on_other_data_or_otherwise_is_measured_anew(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    run(tmp_path)
    assert len(run(tmp_path, **change).denoiser.conditioned_on) == 2
    assert len(run(tmp_path, **change).denoiser.conditioned_on) == 0


def test_scores_of_samples_made_with_other_settings_are_never_mixed(tmp_path: Path) -> None:
    run(tmp_path)
    before = (tmp_path / "report.json").read_text()
    with pytest.raises(UserError, match=r"scenes/a\.json.*guidance_scale: 1\.0 → 2\.0"):
        run(tmp_path, guidance_scale=2.0)
    assert (tmp_path / "report.json").read_text() == before
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path, killed_at=1, guidance_scale=2.0, report={"overwrite": True})
    assert not (tmp_path / "report.json").exists(), "its sheets are no longer there"
    assert len(run(tmp_path, guidance_scale=2.0, report={"overwrite": True}).denoiser.conditioned_on) == 1
    assert len(run(tmp_path, guidance_scale=2.0).denoiser.conditioned_on) == 0


def test_what_changes_no_score_does_not_refuse(tmp_path: Path) -> None:
    run(tmp_path)
    assert len(run(tmp_path, novel_weight=3.0, warm_start_steps=7).denoiser.conditioned_on) == 0


def test_scores_of_the_first_version_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "a.json").write_text('{"key": "a", "images": "01", "made_with": {}, "scores": {}}')
    with pytest.raises(UserError, match="version"):
        run(tmp_path)


def test_fid_and_kid_are_of_all_scenes_after_an_interruption_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfm_lightning.callbacks.image_scores.RealismMetrics", FewNumbers)
    model = run(tmp_path / "once")
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "twice", killed_at=1)
    run(tmp_path / "twice")
    once, twice = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("once", "twice"))
    assert once == twice

    evaluated = [scene for part in Scenes().batches[:2] for scene in model.eval().test_step(part, 0)["scenes"]]
    views = [position for position, role in enumerate(evaluated[0].roles) if role != "context"]
    true = torch.cat([scene.truth[views] for scene in evaluated])
    sampled = torch.cat([scene.samples[:, views].flatten(0, 1) for scene in evaluated])
    expected = compare_features(FewNumbers().features(true), FewNumbers().features(sampled))
    everything = once["joint"]["all"]
    assert {name: everything[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert (everything["images_true"], everything["images_sampled"]) == (len(true), len(sampled)) == (9, 18)
    assert set(once["joint"]) == {"target", "novel", "all"}
    assert "biased" in once["notes"]["fid (all)"]
    assert "All scenes together" in (tmp_path / "once" / "index.html").read_text()


def test_scores_without_what_was_kept_beside_them_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfm_lightning.callbacks.image_scores.RealismMetrics", FewNumbers)
    run(tmp_path)
    (tmp_path / "scenes" / "c.npz").unlink()
    assert run(tmp_path).denoiser.conditioned_on == [1]


def test_without_weights_the_report_says_what_is_missing(tmp_path: Path) -> None:
    run(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["joint"] == {}
    assert "weights-inception" in report["missing"]["fid"]
    assert not list((tmp_path / "scenes").glob("*.npz"))
