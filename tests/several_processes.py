"""Trainers whose processes a test starts itself."""

from typing import Any

# Before there is a process group: default arguments in it keep the group alive otherwise.
import torch.distributed.nn.functional  # noqa: F401
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from dfm_lightning.cli.process_group import leave_process_group


class Launcher(_MultiProcessingLauncher):
    """Starts processes that leave their process group before they end."""

    def _wrapping_function(self, *args: Any, **kwargs: Any) -> None:
        super()._wrapping_function(*args, **kwargs)
        # (Not in `teardown` of the strategy: hooks that follow it still gather from all processes.)
        assert leave_process_group(), "the process group is still alive"


class SpawnedProcesses(DDPStrategy):
    """Data parallel in spawned processes that end in order."""

    def __init__(self) -> None:
        super().__init__(start_method="spawn")

    def _configure_launcher(self) -> None:
        self._launcher = Launcher(self, start_method="spawn")


def strategy(processes: int) -> Strategy | str:
    """The trainer's strategy for so many processes."""
    return SpawnedProcesses() if processes > 1 else "auto"
