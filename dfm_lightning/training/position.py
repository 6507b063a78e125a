"""The position of a training, so that it resumes as though it had never stopped.

Lightning saves at many moments: after a batch, after a validation, at the end of an epoch or of the training, on
failure. Each leaves its counters in another state, and some resume wrongly: a validation is skipped, a batch or an
accumulating gradient is lost, an epoch ends early. Weights, averages and optimizer change in one place only, the
optimizer's step. So every checkpoint claims to be made right after a step: at that batch, with the data at that
place. Whether validation or the epoch's end followed is noted separately.
"""

from copy import deepcopy
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops import _FitLoop
from lightning.pytorch.trainer.states import TrainerFn

KEY = "dfm_position"
_BATCHES = "epoch_loop.batch_progress"


class Position(Callback):
    """Record the position of training after the last optimizer step. This callback must come first."""

    def __init__(self) -> None:
        self.step = 0
        self.epoch = 0
        self.loops: dict[str, Any] | None = None
        self.validated = False
        self.epoch_ended = False
        self.changing = False

    # --- remembering ------------------------------------------------------------------------------------

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Mark that weights, averages and counters do not match until `StepEnd`."""
        self.changing = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See `Callback`."""
        if trainer.global_step != self.step:  # otherwise gradients are being accumulated
            self.step, self.epoch = trainer.global_step, trainer.current_epoch
            self.loops = trainer.fit_loop.state_dict()
            self.validated = self.epoch_ended = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        if self.loops is not None and not trainer.sanity_checking:
            batches = trainer.fit_loop.epoch_loop.batch_progress.total.ready
            self.validated = self.validated or self.loops[_BATCHES]["total"]["ready"] == batches

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        # (Also called when training stops within an epoch.)
        self.epoch_ended = pass_finished(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Prevent saving a partly changed step."""
        if self.changing:
            forbid_saving(trainer)

    # --- checkpoints ------------------------------------------------------------------------------------

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """See `Callback`."""
        if self.loops is not None and self.step == trainer.global_step:
            checkpoint["epoch"] = self.epoch
            checkpoint["loops"]["fit_loop"] = deepcopy(self.loops)
            checkpoint[KEY] = {"validated": self.validated, "epoch_ended": self.epoch_ended}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """See `Callback`. Checkpoints of plain Lightning are left to Lightning."""
        if trainer.state.fn != TrainerFn.FITTING or KEY not in checkpoint:
            return
        self.loops = deepcopy(checkpoint["loops"]["fit_loop"])
        self.step, self.epoch = checkpoint["global_step"], checkpoint["epoch"]
        self.validated, self.epoch_ended = checkpoint[KEY]["validated"], checkpoint[KEY]["epoch_ended"]
        # Lightning would take an epoch whose last batch is done for a complete one, including its end.
        checkpoint["loops"]["fit_loop"][_BATCHES]["is_last_batch"] = False

    @property
    def batch_was_last(self) -> bool:
        """Tell whether the batch of the last step was the last of its epoch."""
        return self.loops is not None and self.loops[_BATCHES]["is_last_batch"]


class StepEnd(Callback):
    """Mark a step as complete. This callback must come right after those that average weights.

    Args:
        position: the record that is told.
    """

    def __init__(self, position: Position) -> None:
        self.position = position

    def on_train_batch_end(self, *batch: Any, **more: Any) -> None:
        """See `Callback`."""
        self.position.changing = False


class MakeUp(Callback):
    """Complete what a resumed training had left undone. This callback must come late.

    Args:
        position: what the checkpoint says.
    """

    def __init__(self, position: Position) -> None:
        self.position = position
        self._resumed = False

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """See `Callback`."""
        self._resumed = trainer.state.fn == TrainerFn.FITTING and KEY in checkpoint

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate, or bring the epoch to its end."""
        if not self._resumed:
            return
        self._resumed = False
        # A validation counts as done from its first batch on.
        trainer.fit_loop.epoch_loop.val_loop.restarting = False
        if self.position.batch_was_last:
            self._finish_epoch(trainer)
        elif self._validation_is_due(trainer):
            validate(trainer)

    def is_pending(self, trainer: Trainer) -> bool:
        """Tell whether anything is left to complete."""
        if not self._resumed:
            return False
        if self.position.batch_was_last:
            return not self.position.epoch_ended
        return self._validation_is_due(trainer)

    def _validation_is_due(self, trainer: Trainer) -> bool:
        fit_loop = trainer.fit_loop
        assert fit_loop._data_fetcher is not None
        return not self.position.validated and fit_loop.epoch_loop._should_check_val_fx(fit_loop._data_fetcher)

    def _finish_epoch(self, trainer: Trainer) -> None:
        """Do what Lightning does between the last batch of an epoch and the next epoch."""
        fit_loop, epoch_loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
        assert fit_loop._data_fetcher is not None
        epoch_loop.batch_progress.is_last_batch = True
        epoch_loop.batch_progress.increment_completed()
        fit_loop._restarting = epoch_loop._restarting = False
        epoch_loop._skip_next_val = self.position.validated
        epoch_loop.on_advance_end(fit_loop._data_fetcher)
        if self.position.epoch_ended:
            fit_loop.epoch_progress.increment_processed()
            fit_loop.epoch_progress.increment_completed()
        else:
            fit_loop.on_advance_end()
        epoch_loop.on_iteration_done()
        fit_loop.on_iteration_done()


class ResumableFitLoop(_FitLoop):
    """Lightning's loop, which also runs if only a validation or an epoch's end is missing.

    Args:
        trainer: the trainer that this loop is for.
        make_up: what is missing.
    """

    def __init__(self, trainer: Trainer, make_up: MakeUp) -> None:
        super().__init__(trainer, trainer.fit_loop.min_epochs, trainer.fit_loop.max_epochs)
        self.epoch_loop = trainer.fit_loop.epoch_loop
        self.make_up = make_up

    @property
    def skip(self) -> bool:
        """See `_FitLoop`."""
        return not self.make_up.is_pending(self.trainer) and super().skip


def validate(trainer: Trainer) -> None:
    """Validate before a training continues."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    progress = loop.batch_progress.state_dict()
    trainer.validating = True
    loop.run()
    trainer.training = True
    loop.batch_progress.load_state_dict(progress)  # Lightning is about to count these batches itself


def forbid_saving(trainer: Trainer) -> None:
    """Prevent callbacks from saving a model after a failure."""
    for callback in trainer.checkpoint_callbacks:
        # (Users' own callbacks too, which no subclass of ours can stand for.)
        callback.on_exception = _save_nothing  # type: ignore[method-assign]


def _save_nothing(trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
    pass


def pass_finished(trainer: Trainer) -> bool:
    """Tell whether the current batch is the last one of its epoch."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()
