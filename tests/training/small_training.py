"""Trainings of a few steps, of which a checkpoint can be compared with another."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from toy_problem import LinearDenoiser, Slope, Task, ToyData

from dfm_lightning.optimizers import AdamWithWarmup, OptimizerChoice
from dfm_lightning.training import guarded


class Events(Callback):
    """Writes down what happens, with the numbers that came out."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.seen.append(("epoch", trainer.current_epoch))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.seen.append(("batch", trainer.global_step, float(outputs["loss"]), rate, tuple(batch.key)))

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.seen.append(("validation", trainer.global_step, float(trainer.callback_metrics["val/loss"])))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.seen.append(("epoch end", trainer.current_epoch))


def train(
    folder: Path,
    *callbacks: Callback,
    ckpt_path: Path | None = None,
    optimizer: OptimizerChoice | None = None,
    batch_size: int = 4,
    module: Task | None = None,
    **options: Any,
) -> Trainer:
    """Train the toy problem: 12 scenes, 3 batches of 4, validated every 2 batches unless told otherwise."""
    seed_everything(0, workers=True, verbose=False)
    (folder / "index.txt").touch()
    module = module or Task(
        LinearDenoiser(),
        Slope(),
        optimizer=optimizer or AdamWithWarmup(learning_rate=0.01, warmup_steps=3, decay="none"),
    )
    defaults: dict[str, Any] = {"max_epochs": -1, "val_check_interval": 2, "check_val_every_n_epoch": None}
    trainer = guarded(
        Trainer(
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=folder,
            callbacks=list(callbacks),
            **{**defaults, **options},
        )
    )
    trainer.fit(
        module, datamodule=ToyData(str(folder), batch_size=batch_size), ckpt_path=ckpt_path, weights_only=True
    )
    return trainer


def saving(folder: Path, every: int | None = 1, **options: Any) -> ModelCheckpoint:
    """Saves all checkpoints, named by their step."""
    defaults: dict[str, Any] = {"save_top_k": -1, "filename": "{step}", "auto_insert_metric_name": False}
    return ModelCheckpoint(dirpath=folder, every_n_train_steps=every, **{**defaults, **options})


def averaging(**options: Any) -> EMAWeightAveraging:
    """Averages whose difference from the weights shows."""
    return EMAWeightAveraging(**{"decay": 0.8, **options})


def load(path: Path) -> dict[str, Any]:
    """A checkpoint as data."""
    return torch.load(path, weights_only=True)


def differing(first: Any, second: Any, where: str = "", but: str = "callbacks") -> list[str]:
    """Where two checkpoints differ, apart from the callbacks' notes about files, and from the part `but`."""
    if isinstance(first, dict) and isinstance(second, dict):
        if first.keys() != second.keys():
            return [f"{where}: {set(first) ^ set(second)}"]
        compared = [key for key in first if key not in ("callbacks", but)]
        return [d for key in compared for d in differing(first[key], second[key], f"{where}.{key}", but)]
    if isinstance(first, (list, tuple)) and len(first) == len(second):
        pairs = zip(first, second, strict=True)
        return [d for i, (a, b) in enumerate(pairs) for d in differing(a, b, f"{where}[{i}]", but)]
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) else [where]
    return [] if first == second else [f"{where}: {first} {second}"]
