"""Every task in every precision: trained, validated, tested and predicted, measured and written; or refused."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from ball_scenes import batch, request
from gan_problem import small_task, write_small_generator
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from dfm_lightning.callbacks import (
    CodeReport,
    CodeWriter,
    MotionReport,
    MotionWriter,
    SceneReport,
    SceneWriter,
    TensorWriter,
)
from dfm_lightning.denoisers import ImageToMotion, MLPDenoiser, PixelNeRFDenoiser
from dfm_lightning.diffusion import DDIM
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models import ImageWarping, VolumeRendering
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.networks.image_encoder import ImageEncoder
from dfm_lightning.tasks import InverseGraphics, MotionObjective, MotionPrediction
from dfm_lightning.types import Batch, Moment, Prediction, Request, Views, as_request

Precision = Literal["32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true"]
PRECISIONS: list[Precision] = ["bf16-mixed", "bf16-true", "16-mixed", "64-true"]


@pytest.fixture(autouse=True)
def _without_pretrained_networks(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("empty")))
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")


class Scenes(LightningDataModule):
    def __init__(self, batch: Batch, request: Request) -> None:
        super().__init__()
        self.batch, self.request = batch, request

    def train_dataloader(self) -> DataLoader:
        return DataLoader([self.batch] * 2, batch_size=None)

    val_dataloader = train_dataloader

    def test_dataloader(self) -> DataLoader:
        return DataLoader([self.batch], batch_size=None)

    def predict_dataloader(self) -> DataLoader:
        return DataLoader([self.request], batch_size=None)


def run(model: Any, data: Scenes, precision: Precision, callbacks: list[Callback]) -> Trainer:
    """All of Lightning's commands, one after the other."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        accelerator="cpu",
        precision=precision,
        max_steps=2,
        callbacks=callbacks,
        enable_model_summary=False,
        **quiet,
    )
    trainer.fit(model, data)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    trainer.test(model, data, verbose=False)
    trainer.predict(model, data, return_predictions=False)
    return trainer


# --- problems ---------------------------------------------------------------------------------------------------


class Scaled(ForwardModel):
    def forward(self, signal: Tensor, params: Tensor) -> Tensor:
        return (signal[:, None] * params).tanh()


def own_problem() -> tuple[DiffusionWithForwardModel, Scenes]:
    torch.manual_seed(0)
    params = torch.rand(2, 3, 1, 4, 4)
    seen = (Scaled()(torch.rand(2, 1, 4, 4), params), params)
    parts = [Views(*(part[:, i : i + 1] for part in seen)) for i in range(3)]
    scene = Batch(*parts, key=["a", "b"], truth={})
    denoiser = MLPDenoiser(inputs=64, signal_shape=[1, 4, 4], width=16, depth=1)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return DiffusionWithForwardModel(denoiser, Scaled(), sampler=DDIM(20), samples=2), Scenes(
        scene, as_request(scene)
    )


def motion() -> tuple[MotionPrediction, Scenes]:
    image = torch.rand(1, 1, 3, 16, 16) * 2 - 1
    parts = [Views(torch.rand(1, 1, 3, 16, 16), Moment(image, torch.full((1, 1), time))) for time in (0, 1, 0.5)]
    truth = {
        "flow": torch.ones(1, 2, 16, 16),
        "shape": torch.ones(1, 1, 16, 16),
        "directions": torch.eye(2)[None],
        "probabilities": torch.tensor([[0.5, 0.5]]),
    }
    scene = Batch(*parts, key=["a"], truth=truth)
    torch.manual_seed(0)
    denoiser = ImageToMotion(width=16, depth=1, heads=2, patch=4)
    for parameter in denoiser.network.output.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    objective = MotionObjective(smoothness_weight=0.1, magnitude_weight=0.1, hole_weight=0.5)
    model = MotionPrediction(denoiser, ImageWarping("backward"), sampler=DDIM(2), objective=objective, samples=2)
    return model, Scenes(scene, as_request(scene))


def gan(folder: Path) -> tuple[Any, Scenes]:
    model = small_task(write_small_generator(folder / "generator.safetensors"), samples=2)
    mask = torch.zeros(1, 1, 1, 16, 16)
    mask[..., :8] = 1
    image = torch.rand(1, 1, 3, 16, 16) * 2 - 1
    whole, code = torch.ones_like(mask), {"code": torch.randn(1, 6)}
    scene = Batch(Views(image * mask, mask), Views(image, whole), Views(image[:, :0], whole[:, :0]), ["a"], code)
    return model, Scenes(scene, as_request(scene))


def scenes() -> tuple[InverseGraphics, Scenes]:
    torch.manual_seed(0)
    options = {"near": 1.0, "far": 5.0, "coarse_samples": 6, "patch_size": 4}
    denoiser = PixelNeRFDenoiser(
        ImageEncoder(16, 1, 2, 6, 3, 5, 4), VolumeRendering(**options, fine_samples=0), mlp_width=8, octaves=2
    )
    renderer = VolumeRendering(**options, fine_samples=4)
    model = InverseGraphics(denoiser, renderer, sampler=DDIM(2), samples=2, autoregressive_steps=1)
    return model, Scenes(batch(["a"]), request(["a"], frames=4))


# --- runs -------------------------------------------------------------------------------------------------------


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return {
        f"{path.parent.name}.{name}": array
        for path in sorted(folder.rglob("*.npz"))
        for name, array in np.load(path).items()
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_problem_of_ones_own(tmp_path: Path, precision: Precision) -> None:
    trainer = run(*own_problem(), precision, [TensorWriter(str(tmp_path))])
    written = arrays(tmp_path)
    # Of each of two samples: signal, observations and their parameters, and both of the context.
    assert len(written) == 10
    assert all(np.isfinite(array.astype(float)).all() for array in written.values())
    assert all(array.dtype in (np.float16, np.float32, np.float64) for array in written.values())
    assert all(bool(torch.as_tensor(value).isfinite()) for value in trainer.callback_metrics.values())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_motion(tmp_path: Path, precision: Precision) -> None:
    run(*motion(), precision, [MotionReport(str(tmp_path / "report")), MotionWriter(str(tmp_path / "predicted"))])
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert np.isfinite(report["scenes"]["a"]["target"]["epe_mean"])
    assert len(list((tmp_path / "predicted").rglob("flow.flo"))) == 2


@pytest.mark.parametrize("precision", PRECISIONS)
def test_gan_inversion(tmp_path: Path, precision: Precision) -> None:
    callbacks = [CodeReport(str(tmp_path / "report")), CodeWriter(str(tmp_path / "predicted"))]
    run(*gan(tmp_path), precision, callbacks)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert np.isfinite(report["scenes"]["a"]["code"]["distance_mean"])
    assert len(arrays(tmp_path / "predicted")) == 2


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "64-true"])
def test_inverse_graphics(tmp_path: Path, precision: Precision) -> None:
    run(*scenes(), precision, [SceneReport(str(tmp_path / "report")), SceneWriter(str(tmp_path / "predicted"))])
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert np.isfinite(report["scenes"]["a"]["target"]["psnr_mean"])
    assert len(list((tmp_path / "predicted").rglob("video.mp4"))) == 2


def test_training_in_float16_throughout_is_refused_and_sampling_is_not(tmp_path: Path) -> None:
    model, data = own_problem()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", precision="16-true", callbacks=[TensorWriter(str(tmp_path))], **quiet)
    with pytest.raises(UserError, match="16-true"):
        trainer.fit(model, data)
    trainer.predict(model, data, return_predictions=False)
    assert all(np.isfinite(array.astype(float)).all() for array in arrays(tmp_path).values())


def test_what_bf16_loses_is_said(recwarn: pytest.WarningsRecorder) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(accelerator="cpu", precision="bf16-true", max_steps=1, **quiet).fit(*own_problem())
    assert any("bf16-true loses updates" in str(warning.message) for warning in recwarn)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_inverse_graphics_refuses_to_round_cameras(tmp_path: Path, precision: Precision) -> None:
    with pytest.raises(UserError, match=f"precision.*{precision}.*{precision.removesuffix('true')}mixed"):
        run(*scenes(), precision, [])


class Kept(TensorWriter):
    """Keeps the observations that it writes."""

    def write(self, prediction: Prediction, folder: Path) -> None:
        self.observations = [*getattr(self, "observations", []), prediction.observation.double()]


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_samples_are_nearly_those_of_float32(precision: Precision, tmp_path: Path) -> None:
    """Networks of the same weights, from the same noise and at the same levels: what differs is rounding."""
    drawn = {}
    for name in ("32-true", precision):
        model, data = own_problem()
        writer = Kept(str(tmp_path / name))
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        Trainer(accelerator="cpu", precision=name, callbacks=[writer], **quiet).predict(
            model, data, return_predictions=False
        )
        drawn[name] = torch.stack(writer.observations)
    one, other = drawn["32-true"].unflatten(0, (2, 2)).unbind(dim=1)
    between = (one - other).square().mean().sqrt()
    rounding = (drawn[precision] - drawn["32-true"]).square().mean().sqrt()
    assert rounding < 0.2 * between
