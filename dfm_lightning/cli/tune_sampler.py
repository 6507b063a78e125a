"""`dfm tune-sampler`: needs model and data as Lightning's commands do, and no method of the trainer."""

from pathlib import Path

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from dfm_lightning.checkpoints.stored_config import load_weights
from dfm_lightning.errors import UserError
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.tuning import Tuning, tune_sampler, validation_scenes

TUNE = "tune-sampler"
TUNE_SUMMARY = "Search levels, orders and compensation of a sampler for a trained model, on validation scenes."


def run_tuning(
    model: LightningModule,
    data: LightningDataModule,
    trainer: Trainer,
    settings: Tuning,
    checkpoint: str | None,
) -> None:
    """Search for a sampler of a trained model on the trainer's device.

    Raises:
        UserError: the model is not trained, or does not sample by diffusion.
    """
    if not isinstance(model, DiffusionWithForwardModel):
        raise UserError(f"dfm {TUNE} needs a model that samples by diffusion, got {type(model).__name__}")
    if checkpoint is None:
        raise UserError(f"dfm {TUNE} needs a trained model: add --ckpt_path CHECKPOINT")
    load_weights(model, Path(checkpoint))
    device = trainer.strategy.root_device
    scenes = validation_scenes(data, settings.scenes, device)
    with trainer.precision_plugin.forward_context():
        tune_sampler(model.to(device), scenes, settings, str(trainer.precision))
