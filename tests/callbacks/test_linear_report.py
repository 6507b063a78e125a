"""The report of linear inverse problems: scores by kind of operator, FID of samples and of their projections."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from few_numbers import FewNumbers
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from dfm_lightning.callbacks import LinearReport
from dfm_lightning.denoisers import OperatorDenoiser
from dfm_lightning.diffusion import Heun, Karras
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import (
    LinearMeasurements,
    Matrices,
    Nothing,
    StridedMotionBlurs,
    one_a_view,
)
from dfm_lightning.metrics import compare_features, psnr
from dfm_lightning.tasks import LinearInverseProblem
from dfm_lightning.types import Batch, map_tensors


def problems(law: Any, keys: list[str]) -> Batch:
    generator = torch.Generator().manual_seed(len(keys))
    images = torch.rand(len(keys), 3, 8, 8, generator=generator) * 2 - 1
    batch = LinearMeasurements(law, 0.05).problems(
        images, torch.zeros(len(keys), dtype=torch.long), keys, generator
    )
    return batch._replace(truth={"image": images})


BATCHES = [problems(Matrices((4, 9)), ["a", "b"]), problems(Nothing(), ["c"])]
BLURRED = problems(StridedMotionBlurs((2,)), ["d"])


def run(folder: Path) -> tuple[LinearInverseProblem, dict[str, Any]]:
    torch.manual_seed(0)
    denoiser = OperatorDenoiser(
        patch=2, depths=(1,), widths=(48,), windows=(0,), joint=(True,), head_width=16, mapping_width=32
    )
    model = LinearInverseProblem(denoiser, sampler=Heun(3, spacing=Karras()), samples=3, draw_batch=3)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LinearReport(str(folder))],
    )
    trainer.test(model, DataLoader(BATCHES, batch_size=None), verbose=False)
    return model, json.loads((folder / "report.json").read_text())


def test_scores_are_those_of_each_operator_and_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfm_lightning.callbacks.image_scores.RealismMetrics", FewNumbers)
    model, report = run(tmp_path)
    evaluated = {image.key: image for batch in BATCHES for image in model.eval().test_step(batch, 0)["scenes"]}
    each = {key: float(psnr(e.samples, e.truth.expand_as(e.samples)).mean()) for key, e in evaluated.items()}
    average = {operator: scores["psnr_mean"] for operator, scores in report["average"].items()}
    expected = {"all": sum(each.values()) / 3, "Matrix": (each["a"] + each["b"]) / 2, "Zero": each["c"]}
    assert average == pytest.approx(expected, rel=1e-4)
    assert (tmp_path / "sheets" / "a.png").exists()
    assert (tmp_path / "pictures" / "c.png").exists()

    true = torch.stack([image.truth for image in evaluated.values()])
    assert set(report["joint"]) == {"image", "projected"}
    for role, found in report["joint"].items():
        images = torch.cat([image.samples if role == "image" else image.projected for image in evaluated.values()])
        distances = compare_features(FewNumbers().features(true), FewNumbers().features(images))
        assert {name: found[name] for name in distances} == pytest.approx(distances, rel=1e-3, abs=1e-5)
    assert report["joint"]["image"]["fid"] != pytest.approx(report["joint"]["projected"]["fid"], rel=0.01)


def test_projected_samples_explain_the_measurement(tmp_path: Path) -> None:
    model, report = run(tmp_path)
    for batch in BATCHES:
        for row, image in enumerate(model.eval().test_step(batch, 0)["scenes"]):
            context = map_tensors(lambda tensor, i=row: tensor[i : i + 1], batch.context)
            seen = one_a_view(context.params.operator).apply(image.projected[:1])
            torch.testing.assert_close(seen, context.observation[:, 0], atol=1e-4, rtol=1e-4)
    assert report["joint"] == {}
    assert {"fid", "kid", "lpips"} <= set(report["missing"])


def test_an_approximate_pseudo_inverse_projects_as_the_true_one(tmp_path: Path) -> None:
    model, _ = run(tmp_path)
    (image,) = model.eval().test_step(BLURRED, 0)["scenes"]
    operator = one_a_view(BLURRED.context.params.operator)
    columns = torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8).expand(-1, 3, -1, -1)
    dense = operator.apply(columns[None])[0].flatten(2)[:, 0].mT
    residual = BLURRED.context.observation[0, 0].double() - operator.apply(image.samples[None].double())[0]
    back = torch.linalg.pinv(dense, rtol=1e-5) @ residual.flatten(2)[..., None]
    expected = image.samples + back.view(image.samples.shape).float()
    assert (image.projected - expected).norm() < 1e-2 * (expected - image.samples).norm()
    approximate = operator.pseudo_inverse(residual[None])[0]
    assert (approximate.flatten() - back.flatten()).norm() > 0.1 * back.norm()


def test_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="got tuple"):
        LinearReport(str(tmp_path)).scenes({"scenes": [("a", 1)]})
    assert LinearReport(str(tmp_path)).scenes({"scenes": []}) == []
