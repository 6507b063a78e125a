"""Pictures of samples in TensorBoard while a model trains."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from dfm_lightning.callbacks.output import images_to_uint8, labelled_grid
from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.errors import UserError
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.ranges import check_at_least
from dfm_lightning.sampling import evaluating
from dfm_lightning.types import Batch, concatenate, map_tensors


class SamplePictures(Callback):
    """Samples of the first validation scenes, drawn in validation (with averaged weights, where there are some).

    For each scene a row: context, true target and novel views, and the same views of a sample. The same noise
    every time, so that pictures can be compared; training is not touched.

    Args:
        every_n_steps: training steps between pictures, at least; they wait for the next validation.
        scenes: number of scenes.
        cell: size of an image in pixels, at least.
    """

    def __init__(self, every_n_steps: int = 1000, scenes: int = 4, cell: int = 96) -> None:
        check_at_least(1, every_n_steps=every_n_steps, scenes=scenes, cell=cell)
        self.every_n_steps = every_n_steps
        self.scenes = scenes
        self.cell = cell
        self._last = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a model whose samples are made in another way.

        Raises:
            UserError: the model has no forward model to observe a sample with.
        """
        if stage == "fit" and not isinstance(pl_module, DiffusionWithForwardModel):
            raise UserError(
                f"SamplePictures shows samples of a DiffusionWithForwardModel, but {type(pl_module).__name__} is "
                "none: leave it out of trainer.callbacks"
            )

    def state_dict(self) -> dict[str, Any]:
        """When the last pictures were made."""
        return {"last": self._last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self._last = state_dict["last"]

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw and log, when it is time."""
        due = trainer.global_step - self._last >= self.every_n_steps
        if batch_idx > 0 or trainer.sanity_checking or not due:
            return
        self._last = trainer.global_step
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if trainer.is_global_zero and loggers:
            assert isinstance(pl_module, DiffusionWithForwardModel)
            with trainer.precision_plugin.val_step_context(), evaluating(pl_module):
                picture = sample_picture(pl_module, batch, self.scenes, self.cell)
            for logger in loggers:
                logger.experiment.add_image("samples", picture, trainer.global_step, dataformats="HWC")


def sample_picture(model: DiffusionWithForwardModel, batch: Batch, scenes: int, cell: int) -> RGB:
    """One sample of each of the first scenes of a batch, beside its true views."""
    first: Batch = map_tensors(lambda t: t[:scenes], batch)
    keys = batch.key[:scenes]
    wanted = concatenate([first.target, first.novel], dim=1)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        size = model.target_size(first.context)
        drawn = model.sample(first.context, first.target.params, [("picture", key) for key in keys], size)
        observed = model.forward_model(drawn.signal, wanted.params)
    parts = {
        "context": first.context.observation,
        "true": wanted.observation,
        "sample": observed,
    }
    columns = [
        (f"{name} {view + 1}", part[:, view]) for name, part in parts.items() for view in range(part.shape[1])
    ]
    images = [images_to_uint8(column) for _, column in columns]
    rows = [[image[row] for image in images] for row in range(len(keys))]
    return labelled_grid(rows, [name for name, _ in columns], keys, cell)
