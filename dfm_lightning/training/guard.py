"""Add to a trainer the safeguards of every training."""

from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging

from dfm_lightning.training.averages import AVERAGED, RAW, Averages, AveragesInPlace
from dfm_lightning.training.finite import StopAtNonFinite
from dfm_lightning.training.last_step import SaveLastStep
from dfm_lightning.training.optimizer_settings import OptimizerAsGiven
from dfm_lightning.training.position import MakeUp, Position, ResumableFitLoop, StepEnd
from dfm_lightning.training.whole_files import WholeCheckpoints
from dfm_lightning.training.whole_steps import WholeSteps


def guarded(trainer: Trainer) -> Trainer:
    """Return the trainer with safeguards: its checkpoints are whole, are resumed exactly, and hold finite numbers.

    It saves its last step with every `ModelCheckpoint`, completes what a resumed training had left undone, uses
    the optimizer's settings of its model instead of the checkpoint's, cuts no gradient accumulation at the end of
    an epoch, and stops with a `UserError` at a loss that is not finite.
    """
    position, averages = Position(), Averages()
    make_up = MakeUp(position)
    first = [StopAtNonFinite(), averages, SaveLastStep(), position, WholeSteps()]
    # (Lightning sets the attribute without declaring it.)
    given = trainer.callbacks  # type: ignore[attr-defined]
    savers = [callback for callback in given if isinstance(callback, Checkpoint)]
    others = [callback for callback in given if not isinstance(callback, Checkpoint)]
    averaged = 1 + max((i for i, c in enumerate(others) if isinstance(c, WeightAveraging)), default=-1)
    others[averaged:averaged] = [AveragesInPlace(averages), StepEnd(position)]
    trainer.callbacks = [*first, *others, OptimizerAsGiven(), make_up, *savers]  # type: ignore[attr-defined]  # as above
    trainer.fit_loop = ResumableFitLoop(trainer, make_up)
    # A strategy that writes its own files, or an IO plugin that the user chose, is kept.
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = WholeCheckpoints(lambda checkpoint: _complete(trainer, checkpoint))
    return trainer


def _complete(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Let callbacks add to a weights-only checkpoint what other commands need: averages, the config."""
    kept = {*checkpoint, AVERAGED}
    # (Lightning sets the attribute without declaring it.)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        callback.on_save_checkpoint(trainer, trainer.lightning_module, checkpoint)
    for name in (RAW, "averaging_state"):
        if name not in kept:
            checkpoint.pop(name, None)
