"""`dfm predict --next_observation true`."""

from lightning.pytorch import LightningModule, Trainer

from dfm_lightning.callbacks.prediction_writer import PredictionWriter
from dfm_lightning.errors import UserError
from dfm_lightning.sampling import as_predictor


def choose_next(model: LightningModule, trainer: Trainer) -> None:
    """Let the writer rank next observations. `UserError` if it cannot, or the model draws only one sample."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # (set by Lightning without a declaration)
    writer = next((c for c in callbacks if isinstance(c, PredictionWriter)), None)
    if writer is None or type(writer).candidates is PredictionWriter.candidates:
        raise UserError(
            f"--next_observation is for scenes, linear problems and your own, but {type(writer).__name__} writes "
            "nothing that could be observed next: leave it out"
        )
    if as_predictor(model, "--next_observation").samples < 2:
        raise UserError("--next_observation compares samples: set model.samples to 2 or more, got 1")
    writer.chooses_next = True
