"""Keep averaged and raw weights in their places, whenever a checkpoint is made."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn

from dfm_lightning.errors import UserError
from dfm_lightning.training.notices import say
from dfm_lightning.training.position import forbid_saving
from dfm_lightning.weights import is_finite

AVERAGED, RAW = "state_dict", "current_model_state"


class Averages(Callback):
    """Keep the averages equal to the weights until averaging begins, and track when the two are swapped.

    If averaging begins later than training, Lightning would save, validate and end with the initial weights. This
    callback must precede those that average.
    """

    def __init__(self) -> None:
        self.exchanged: dict[WeightAveraging, bool] = {}
        self._exchanging = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See `Callback`."""
        for averaging in _averagings(trainer):
            self.exchanged[averaging] = False
            # (Validation swaps the two; an exception leaves them swapped. The callback may be the user's own: so
            # its method is replaced.)
            averaging._swap_models = self._watched(averaging, averaging._swap_models)  # type: ignore[assignment,method-assign]

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        self._follow(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        self._follow(pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """See `Callback`."""
        self._follow(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Prevent saving weights that are partly swapped."""
        if self._exchanging:
            forbid_saving(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Continue with the raw weights, which the optimizer's state belongs to, if nothing is averaged now."""
        if trainer.state.fn == TrainerFn.FITTING and RAW in checkpoint and not self.exchanged:
            pl_module.load_state_dict(checkpoint[RAW])
            say("The training averaged its weights; without EMAWeightAveraging it continues with the raw ones.")

    def _watched(
        self, averaging: WeightAveraging, exchange: Callable[[LightningModule], None]
    ) -> Callable[[LightningModule], None]:
        def watched(pl_module: LightningModule) -> None:
            self._exchanging = True
            exchange(pl_module)
            self.exchanged[averaging] = not self.exchanged[averaging]
            self._exchanging = False

        return watched

    @torch.no_grad()
    def _follow(self, pl_module: LightningModule) -> None:
        """Set the average to the current weights until the first average is taken."""
        for averaging, exchanged in self.exchanged.items():
            model = averaging._average_model
            if model is None or exchanged or int(model.n_averaged) > 0:
                continue
            current = itertools.chain(pl_module.parameters(), pl_module.buffers())
            averages = itertools.chain(model.module.parameters(), model.module.buffers())
            for average, value in zip(averages, current, strict=True):
                average.copy_(value)


class AveragesInPlace(Callback):
    """Store averaged and raw weights in their places in a checkpoint made while they are swapped, if the averages
    are finite.

    This callback must follow those that average.

    Args:
        averages: knows whether they are swapped.
    """

    def __init__(self, averages: Averages) -> None:
        self.averages = averages

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """See `Callback`.

        Raises:
            UserError: an average of a parameter is infinite or not a number.
        """
        if RAW not in checkpoint:
            return
        if any(self.averages.exchanged.values()):
            checkpoint[AVERAGED], checkpoint[RAW] = checkpoint[RAW], checkpoint[AVERAGED]
        for name, _ in pl_module.named_parameters():
            if name in checkpoint[AVERAGED] and not is_finite(checkpoint[AVERAGED][name]):
                raise UserError(
                    f"The average of the weights '{name}' at training step {trainer.global_step} is infinite or "
                    "not a number, though the weights themselves are finite; it is not saved. Look at the "
                    "settings of the callback that averages."
                )


def _averagings(trainer: Trainer) -> list[WeightAveraging]:
    # (Lightning sets the attribute without declaring it.)
    return [callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
