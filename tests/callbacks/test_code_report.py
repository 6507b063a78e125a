"""The report and the writer of GAN inversion, on random codes and through a whole test and prediction."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_faces import ATTRIBUTES, draw_faces, faces_from_noise
from gan_problem import small_task, write_small_generator
from lightning.pytorch import Callback, Trainer
from PIL import Image
from torch import Tensor

from datamodules.ffhq_gan import FFHQGANDataModule
from datamodules.synthetic.face_attributes import FaceAttributes
from dfm_lightning.callbacks import CodeReport, CodeWriter
from dfm_lightning.callbacks.code_scores import score_patch
from dfm_lightning.errors import UserError
from dfm_lightning.metrics import masked_psnr
from dfm_lightning.networks.stylegan2.sampling import GeneratorSamples
from dfm_lightning.tasks import EvaluatedPatch, GANInversion


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("empty")))


def patch_of(images: Tensor, samples: Tensor, mask: Tensor) -> EvaluatedPatch:
    random = torch.Generator().manual_seed(1)
    return EvaluatedPatch(
        "a", mask, images, samples, torch.zeros_like(images), torch.randn(6, generator=random),
        torch.randn(len(samples), 2, 6, generator=random), torch.zeros(6),
    )  # fmt: skip


def spread_of(samples: np.ndarray) -> float:
    pairs = [np.abs(a - b).mean() for a, b in itertools.combinations(samples, 2)]
    return float(np.sqrt(np.pi) / 2 * np.mean(pairs))


def test_scores_of_pixels_and_codes() -> None:
    random = torch.Generator().manual_seed(0)
    truth, noise = torch.rand(3, 16, 16, generator=random) - 0.5, torch.randn(4, 3, 16, 16, generator=random)
    mask = torch.zeros(1, 16, 16)
    mask[:, 2:8, 4:10] = 1
    patch = patch_of(truth, truth + noise * torch.tensor([0.1, 0.2, 0.3, 0.1]).view(4, 1, 1, 1), mask)
    scores = score_patch(patch, None)
    assert set(scores) == {"patch", "hidden", "code"}

    seen = mask[0].bool().numpy()
    for part, chosen in (("patch", seen), ("hidden", ~seen)):
        unit = (patch.samples.clamp(-1, 1).double().numpy()[:, :, chosen] + 1) / 2
        true = (truth.double().numpy()[:, chosen] + 1) / 2
        each = -10 * np.log10(((unit - true) ** 2).mean(axis=(1, 2)))
        assert scores[part]["psnr_best"] == pytest.approx(each.max(), rel=1e-5)
        assert scores[part]["psnr_mean"] == pytest.approx(each.mean(), rel=1e-5)
        assert scores[part]["spread"] == pytest.approx(spread_of(unit), rel=1e-5)
        of_mean = -10 * np.log10(((0.5 - true) ** 2).mean())
        assert scores[part]["mean_code_psnr"] == pytest.approx(of_mean, rel=1e-5)
    distances = [((code - patch.true_code) ** 2).mean().sqrt().item() for code in patch.codes]
    assert scores["code"]["distance_best"] == pytest.approx(min(distances))
    assert scores["code"]["distance_mean"] == pytest.approx(np.mean(distances))
    assert scores["code"]["mean_code_distance"] == pytest.approx(patch.true_code.square().mean().sqrt().item())
    assert "spread" not in score_patch(patch_of(truth, truth[None], mask), None)["patch"]
    assert "hidden" not in score_patch(patch_of(truth, truth[None], torch.ones(1, 16, 16)), None)


def test_psnr_of_a_mask_is_that_of_the_image_cut_to_it() -> None:
    images = torch.rand(2, 3, 9, 9)
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[1:4, 2:7] = True
    blank = torch.zeros_like(images)
    cut = (images[:, :, 1:4, 2:7] / 2).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(masked_psnr(images, blank, mask), -10 * cut.log10())


def test_agreement_is_counted_within_and_outside_the_patch() -> None:
    faces = faces_from_noise(torch.randn(5, ATTRIBUTES, generator=torch.Generator().manual_seed(2)))
    truth = faces._replace(**{name: value[:1].expand(5) for name, value in faces._asdict().items()})
    mask = torch.zeros(1, 64, 64)
    mask[:, :14, 54:] = 1  # the upper right corner, which tells the background and nothing else
    same_background = truth._replace(
        glasses=torch.tensor([0.9, 0.1, 0.9, 0.1, 0.1]),
        shirt=torch.linspace(0, 1, 5),
        skin=torch.linspace(0, 1, 5),
    )
    images = draw_faces(truth, 64)
    scores = score_patch(patch_of(images[0], draw_faces(same_background, 64), mask), FaceAttributes())
    assert scores["patch"]["agree"] == 1.0
    assert 0.3 < scores["hidden"]["agree"] < 0.95
    other = truth._replace(background=1 - truth.background, brightness=1 - truth.brightness)
    scores = score_patch(patch_of(images[0], draw_faces(other, 64), mask), FaceAttributes())
    assert scores["patch"]["agree"] == 0.0
    # Of twelve hidden readings of colours and presence, only the background's other side disagrees, ...
    assert scores["hidden"]["agree"] >= 0.75  # ... but for what is told from a contrast with it.


def problem(folder: Path) -> tuple[GANInversion, FFHQGANDataModule]:
    generator = write_small_generator(folder / "generator.safetensors")
    data = FFHQGANDataModule(
        GeneratorSamples(generator, 0.7), resolution=16, patch_sides=(4, 8),
        test_seeds=(0, 3), predict_seeds=(0, 2), batch_size=2,
    )  # fmt: skip
    return small_task(generator, samples=2), data


def trainer(*callbacks: Callback) -> Trainer:
    return Trainer(
        accelerator="cpu", logger=False, callbacks=list(callbacks), enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip


def test_a_whole_test(tmp_path: Path) -> None:
    task, data = problem(tmp_path)
    trainer(CodeReport(str(tmp_path / "test"))).test(task, datamodule=data, verbose=False)
    report = json.loads((tmp_path / "test" / "report.json").read_text())
    assert list(report["scenes"]) == ["seed0000000", "seed0000001", "seed0000002"]
    assert set(report["average"]) == {"patch", "hidden", "code"}
    assert report["settings"]["forward_model.generator"] == task.forward_model.fingerprint[:16]
    assert "weights-inception" in report["missing"]["kid"]
    sheet = np.asarray(Image.open(tmp_path / "test" / "sheets" / "seed0000001.png"))
    assert sheet.shape[1] == 90 + 5 * (96 + 4)


def test_whole_predictions(tmp_path: Path) -> None:
    task, data = problem(tmp_path)
    output = tmp_path / "predict"
    trainer(CodeWriter(str(output))).predict(task, datamodule=data, return_predictions=False)
    folders = sorted(path.parent for path in output.glob("*/*/sample.json"))
    assert [str(folder.relative_to(output)) for folder in folders] == [
        f"seed000000{key}/sample_0{sample}" for key in (0, 1) for sample in (0, 1)
    ]
    for folder in folders:
        with np.load(folder / "code.npz", allow_pickle=False) as arrays:
            code = torch.from_numpy(arrays["code"])
        assert code.shape == (1, 6)
        image = task.forward_model.generator(code[None])[0].clamp(-1, 1).permute(1, 2, 0).detach().numpy()
        written = np.asarray(Image.open(folder / "image_full.png"))
        assert written.shape == (32, 32, 3)
        np.testing.assert_allclose(written, (image + 1) * 127.5, atol=0.51)
        assert Image.open(folder / "image.png").size == (16, 16)
        assert Image.open(folder / "patch.png").size == (16, 16)
    grid = np.asarray(Image.open(output / "grid.png"))
    assert grid.shape[:2] == (18 + 2 * (128 + 4), 90 + 3 * (128 + 4))
    second = np.asarray(Image.open(folders[3] / "image_full.png")).repeat(4, 0).repeat(4, 1)
    np.testing.assert_array_equal(grid[18 + 132 : 18 + 260, 90 + 264 : 90 + 392], second)
    assert "grid.png" in (output / "index.html").read_text()


def test_the_number_of_patches_computed_at_once_refuses_nothing(tmp_path: Path) -> None:
    task, data = problem(tmp_path)
    drawn: list[int] = []
    sample = task.sample
    task.sample = lambda *args: drawn.append(1) or sample(*args)  # type: ignore[func-returns-value]  # append is called for its effect
    for size in (1, 2, 3):
        data.batch_size = size
        trainer(CodeWriter(str(tmp_path / "predict"))).predict(task, datamodule=data, return_predictions=False)
        trainer(CodeReport(str(tmp_path / "test"))).test(task, datamodule=data, verbose=False)
        assert len(drawn) == 2 * 2 + 3, "drawn once, and known again"
    data.seeds["predict"] = range(1, 2)
    data.patch_sides = (8, 8)
    with pytest.raises(UserError, match="context"):
        trainer(CodeWriter(str(tmp_path / "predict"))).predict(task, datamodule=data, return_predictions=False)


def test_the_grid_leaves_missing_samples_white(tmp_path: Path) -> None:
    task, data = problem(tmp_path)
    output = tmp_path / "predict"
    trainer(CodeWriter(str(output))).predict(task, datamodule=data, return_predictions=False)
    folders = {key: sorted((output / key).iterdir()) for key in ("seed0000000", "seed0000001")}
    CodeWriter(str(output)).overview({**folders, "seed0000001": folders["seed0000001"][:1]})
    grid = np.asarray(Image.open(output / "grid.png"))
    assert (grid[18 + 132 : 18 + 260, 90 + 264 : 90 + 392] == 255).all()


def test_results_of_another_problem_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="report"):
        CodeReport(str(tmp_path)).measure((), torch.device("cpu"))
