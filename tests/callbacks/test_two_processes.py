"""With two processes: every parameter has its gradient, no scene is lost or counted twice, an idle one waits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ball_scenes import BallDenoiser, batch, renderer, request
from lightning.pytorch import Callback, LightningDataModule, Trainer
from several_processes import strategy

from datamodules.loading import evaluation_loader
from dfm_lightning.callbacks import SceneReport, ScoreReport, TensorWriter
from dfm_lightning.diffusion import DDIM
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import as_request

pytestmark = pytest.mark.slow

STOCK = {
    "rmse_mean", "rmse_best", "rmse_of_mean", "energy_score", "consistency", "spread", "coverage",
    "coverage_expected", "rank",
}  # fmt: skip


class Items(torch.utils.data.Dataset):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def loader(items: list[Any]) -> torch.utils.data.DataLoader:
    return evaluation_loader(Items(items), 1, collate=lambda only: only[0])


class Scenes(LightningDataModule):
    """Batches and requests of one scene each, shared out between the processes."""

    def __init__(self, keys: str) -> None:
        super().__init__()
        self.keys = list(keys)

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        return loader([batch([key]) for key in self.keys])

    def test_dataloader(self) -> torch.utils.data.DataLoader:
        return self.train_dataloader()

    def predict_dataloader(self) -> torch.utils.data.DataLoader:
        return loader([request([key], 4) for key in self.keys])


def task() -> InverseGraphics:
    torch.manual_seed(0)
    return InverseGraphics(
        BallDenoiser(), renderer(), sampler=DDIM(steps=2), samples=2, warm_start_steps=1, autoregressive_steps=1
    )


def trainer(processes: int, callbacks: list[Callback], **options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu", devices=processes, strategy=strategy(processes), logger=False,
        use_distributed_sampler=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=callbacks, **options,
    )  # fmt: skip


def test_parameters_without_a_part_in_the_loss_do_not_stop_training() -> None:
    model = task()
    idle, bias = model.denoiser.idle.detach().clone(), model.denoiser.bias.detach().clone()
    # The first step is the warm start; `idle` has no part in any loss.
    trainer(2, [], max_steps=3).fit(model, datamodule=Scenes("abcdef"))
    assert torch.equal(model.denoiser.idle, idle)
    assert not torch.equal(model.denoiser.bias, bias)


def scores(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())["scenes"]


@pytest.mark.parametrize("keys", ["abc", "a"])
def test_each_scene_is_tested_once(tmp_path: Path, keys: str) -> None:
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        trainer(processes, [SceneReport(str(folder))]).test(task(), datamodule=Scenes(keys), verbose=False)
    assert list(scores(tmp_path / "2")) == list(keys)
    assert scores(tmp_path / "2") == scores(tmp_path / "1")


def test_each_scene_is_predicted_once_by_one_of_them(tmp_path: Path) -> None:
    keys = "a"
    for processes in (1, 2):
        writer = TensorWriter(str(tmp_path / str(processes)))
        trainer(processes, [writer]).predict(task(), datamodule=Scenes(keys), return_predictions=False)
    one, two = (
        {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "1", tmp_path / "2")
    )
    assert len([name for name in one if name.endswith("sample.npz")]) == 2 * len(keys)
    assert one == two


class Logging(DiffusionWithForwardModel):
    """A test of one's own, which logs in the ways that people log."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        for prediction in self.predictions(as_request(batch)):
            self.log("test/each", prediction.observation.mean(), batch_size=1, sync_dist=True)
        self.log_dict({"test/batch": batch.target.observation.mean()}, sync_dist=True)


class Written(Callback):
    """Writes down what the first process knows at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            self.path.write_text(json.dumps({name: float(v) for name, v in trainer.callback_metrics.items()}))


@pytest.mark.parametrize("kind", [DiffusionWithForwardModel, Logging])
@pytest.mark.parametrize("keys", ["abc", "a"])
def test_scores_of_any_problem_do_not_depend_on_the_processes(tmp_path: Path, keys: str, kind: type) -> None:
    for processes in (1, 2):
        torch.manual_seed(0)
        model = kind(BallDenoiser(), renderer(), sampler=DDIM(steps=2), samples=2)
        report = [] if kind is Logging else [ScoreReport(str(tmp_path / str(processes)))]
        callbacks = [Written(tmp_path / f"{processes}.json"), *report]
        trainer(processes, callbacks).test(model, datamodule=Scenes(keys), verbose=False)
    one, two = (json.loads((tmp_path / f"{processes}.json").read_text()) for processes in (1, 2))
    assert one == two
    assert set(one) == ({"test/each", "test/batch"} if kind is Logging else {f"test/{name}" for name in STOCK})
    if kind is not Logging:
        assert scores(tmp_path / "1") == scores(tmp_path / "2")
