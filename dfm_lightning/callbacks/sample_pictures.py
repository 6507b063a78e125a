"""Pictures of samples in TensorBoard while a model trains."""

from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from dfm_lightning.callbacks.output import images_to_uint8, labelled_grid
from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.callbacks.scene_layers import are_images
from dfm_lightning.errors import UserError
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.ranges import check_at_least
from dfm_lightning.sampling import Predictor, as_predictor, evaluating
from dfm_lightning.types import Batch, as_request, concatenate, map_tensors


class SamplePictures(Callback):
    """Show samples of the first validation scenes, drawn in validation (with averaged weights, if any).

    Each scene has a row: context, true target and novel views, and the same views of a sample. The noise is the
    same each time, so that pictures can be compared; training is not affected.

    Args:
        every_n_steps: least number of training steps between pictures; they wait for the next validation.
        scenes: number of scenes.
        cell: least size of an image in pixels.
    """

    def __init__(self, every_n_steps: int = 1000, scenes: int = 4, cell: int = 96) -> None:
        check_at_least(1, every_n_steps=every_n_steps, scenes=scenes, cell=cell)
        self.every_n_steps = every_n_steps
        self.scenes = scenes
        self.cell = cell
        self._last = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a model that draws no samples.

        Raises:
            UserError: it is no `Predictor`.
        """
        if stage == "fit":
            as_predictor(pl_module, "SamplePictures")

    def state_dict(self) -> dict[str, Any]:
        """Return the step of the last pictures."""
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
        """Draw and log pictures if they are due."""
        due = trainer.global_step - self._last >= self.every_n_steps
        if batch_idx > 0 or trainer.sanity_checking or not due:
            return
        self._last = trainer.global_step
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if trainer.is_global_zero and loggers:
            model = as_predictor(pl_module, "SamplePictures")
            with trainer.precision_plugin.val_step_context(), evaluating(pl_module):
                picture = sample_picture(model, batch, self.scenes, self.cell)
            for logger in loggers:
                logger.experiment.add_image("samples", picture, trainer.global_step, dataformats="HWC")


def sample_picture(model: Predictor, batch: Batch, scenes: int, cell: int) -> RGB:
    """Draw one sample of each of the first scenes of a batch, beside its true views.

    Raises:
        UserError: the observations are not images.
    """
    keys = batch.key[:scenes]
    first = map_tensors(lambda t: t[:scenes], batch)._replace(key=keys)
    device = first.target.observation.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        observed = sampled_views(model, first)
    true = concatenate([first.target, first.novel], dim=1).observation
    parts = {"context": first.context.observation, "true": true, "sample": observed}
    if not all(are_images(part[0]) for part in parts.values()):
        shapes = {name: tuple(part.shape[2:]) for name, part in parts.items()}
        raise UserError(f"SamplePictures shows images, but observations have the shapes {shapes}")
    columns = [
        (f"{name} {view + 1}", part[:, view]) for name, part in parts.items() for view in range(part.shape[1])
    ]
    images = [images_to_uint8(column) for _, column in columns]
    rows = [[image[row] for image in images] for row in range(len(keys))]
    return labelled_grid(rows, [name for name, _ in columns], keys, cell)


def sampled_views(model: Predictor, batch: Batch) -> Float[Tensor, "b v c h w"]:
    """Draw one sample of each scene, observed like its target and novel views."""
    request = as_request(batch)
    if isinstance(model, DiffusionWithForwardModel):
        # At the target itself: what `predict` diffuses may be another view, or several.
        size = model.target_size(batch.context)
        names: list[tuple[str | int, ...]] = [("picture", key) for key in batch.key]
        drawn = model.sample(batch.context, batch.target.params, names, size)
        return model.forward_model(drawn.signal, request.params)
    withdraw = model.plan.leave_out(lambda key, sample: sample > 0)
    try:
        observed = {prediction.key: prediction.observation for prediction in model.predictions(request)}
    finally:
        withdraw()
    return torch.stack([observed[key] for key in batch.key])
