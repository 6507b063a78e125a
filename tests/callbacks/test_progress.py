"""The progress of test and predict is counted in the model's own pieces of work."""

from typing import Any

import pytest
from ball_scenes import BallDenoiser, batch, renderer, request
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader

from dfm_lightning.callbacks.prediction_writer import PredictionWriter
from dfm_lightning.callbacks.progress import Meter, TimeLeft, batch_work
from dfm_lightning.diffusion import DDIM
from dfm_lightning.tasks import InverseGraphics


class Scenes(LightningDataModule):
    def test_dataloader(self) -> DataLoader:
        return DataLoader([batch(["a"]), batch(["b"])], batch_size=None)

    def predict_dataloader(self) -> DataLoader:
        return DataLoader([request(["a"], 4), request(["b"], 4)], batch_size=None)


class Nowhere(PredictionWriter):
    """Writes nothing; one sample of scene b counts as finished."""

    def write(self, *_: Any) -> None:
        pass

    def on_predict_start(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_predict_start(trainer, pl_module)
        self._end_run()
        pl_module.plan.leave_out(lambda key, sample: (key, sample) == ("b", 0))


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float | None]]:
    """What the meter was told: done, and of how many."""
    told: list[tuple[float, float | None]] = []
    update = Meter.update

    def spy(self: Meter, row: Any, done: float, note: str = "") -> None:
        update(self, row, done, note)
        told.append((done, self._progress.tasks[0].total))

    monkeypatch.setattr(Meter, "update", spy)
    return told


def run(stage: str, callbacks: list[Any]) -> None:
    model = InverseGraphics(BallDenoiser(), renderer(), sampler=DDIM(steps=3), samples=2, autoregressive_steps=1)
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=callbacks, enable_model_summary=False)
    if stage == "test":
        trainer.test(model, datamodule=Scenes(), verbose=False)
    else:
        trainer.predict(model, datamodule=Scenes(), return_predictions=False)


def test_in_test_all_pieces_are_counted(rows: list[tuple[float, float | None]]) -> None:
    run("test", [TimeLeft()])
    # Of each scene: 2 samples of 3 steps and 4 views, and 4 views of the estimate.
    assert rows[-1] == (36.0, 36.0)
    assert all(total == 36.0 for _, total in rows)
    assert [done for done, _ in rows] == sorted(done for done, _ in rows)
    assert rows[0][0] == 2.0, "a step of both samples"


def test_in_predict_finished_samples_do_not_count(rows: list[tuple[float, float | None]], tmp_path: Any) -> None:
    run("predict", [Nowhere(str(tmp_path)), TimeLeft()])
    # Of each sample 3 steps and 4 frames; one of four turns out to be finished.
    assert rows[0] == (1.0, 28.0)
    assert rows[-1] == (21.0, 21.0)


def test_a_model_of_another_kind_counts_batches() -> None:
    assert batch_work(BoringModel(), None) == (1.0, 1.0)
