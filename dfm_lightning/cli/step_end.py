"""End a training between two steps on request, at the same step in all of its processes."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from dfm_lightning.cli.termination import Termination


class EndAfterStep(Callback):
    """End a training after the current step when asked to; other commands end at once.

    Args:
        termination: knows whether this process has been asked.
    """

    def __init__(self, termination: Termination) -> None:
        self.termination = termination

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle signals from here on."""
        self.termination.install()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `on_sanity_check_start`."""
        self.termination.install()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `on_sanity_check_start`."""
        self.termination.install()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `on_sanity_check_start`."""
        self.termination.install()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Postpone ending to the end of a step from here on."""
        self.termination.install()
        self.termination.postponed = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *step: Any) -> None:
        """End here, in all processes, if one of them has been asked to."""
        self._end_together(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `on_train_batch_end`."""
        if self.termination.postponed:
            self._end_together(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop postponing: no further step follows."""
        self.termination.postponed = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Record which processes to wait for."""
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            self.termination.others = launcher.procs

    def _end_together(self, trainer: Trainer) -> None:
        asked = self.termination.status is not None
        if trainer.strategy.reduce_boolean_decision(asked, all=False):
            self.termination.end()
