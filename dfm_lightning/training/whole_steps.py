"""Keep gradient accumulation whole at the end of a pass over the data."""

import functools
import math
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities import CombinedLoader

from dfm_lightning.errors import UserError
from dfm_lightning.training.notices import say
from dfm_lightning.wording import counted


class WholeSteps(Callback):
    """Extend the epochs of loaders that allow it (`hold_whole_steps`) to whole optimizer steps.

    Lightning takes a step at the end of an epoch however few batches have been gathered for it. If that cannot be
    avoided, a message says so.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See `Callback`."""
        if stage != "fit":
            return
        if trainer.accumulate_grad_batches < 1:
            raise UserError(
                "trainer.accumulate_grad_batches is the number of batches that a step gathers, 1 or more; got "
                f"{trainer.accumulate_grad_batches}."
            )
        batches = _batches(trainer)
        # (Lightning sets the attribute without declaring it.)
        source = trainer.datamodule or pl_module  # type: ignore[attr-defined]
        if batches > 1:
            # (The trainer asks for the loader, and for its length, between two hooks: so the method is replaced.)
            source.train_dataloader = whole_steps(source.train_dataloader, batches)  # type: ignore[method-assign]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report which steps have fewer batches."""
        batches, gathered = trainer.num_training_batches, trainer.accumulate_grad_batches
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if done < batches and done % gathered:  # of a training that accumulated another number
            say(
                f"Training stopped after {counted(done, 'batch')} of an epoch, and a step now gathers {gathered}: "
                f"the first step has {gathered - done % gathered} only."
            )
        if batches != float("inf") and batches % gathered:
            say(
                f"An epoch has {counted(int(batches), 'batch')}, and a step gathers {gathered}: "
                f"the last step of each epoch has {int(batches % gathered)} only."
            )


def whole_steps(make_loader: Callable[[], Any], batches: int) -> Callable[[], Any]:
    """Wrap a function so that its loaders make epochs of a multiple of this many batches, if they can."""

    @functools.wraps(make_loader)
    def make() -> Any:
        made = make_loader()
        for loader in CombinedLoader(made).flattened:
            if hasattr(loader, "hold_whole_steps"):
                loader.hold_whole_steps(batches)
        return made

    return make


def _batches(trainer: Trainer) -> int:
    """Return the batches of a step; with several schedules, a number that holds whole steps of each."""
    # (Lightning sets the attribute without declaring it.)
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    schedules = [c.scheduling.values() for c in callbacks if isinstance(c, GradientAccumulationScheduler)]
    return math.lcm(trainer.accumulate_grad_batches, *(batches for schedule in schedules for batches in schedule))
