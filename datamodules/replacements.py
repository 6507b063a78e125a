"""Count the training draws that are replaced because they cannot be read, across all worker processes."""

import logging
from typing import Protocol

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch.utils.data import get_worker_info

from dfm_lightning.wording import counted

_log = logging.getLogger(__name__)


class Replacements:
    """A counter of replaced draws; each worker warns of each problem once.

    Args:
        workers: number of worker processes.
    """

    def __init__(self, workers: int) -> None:
        self._warned: set[str] = set()
        # In shared memory: each worker counts in its own slot, the main process in the first.
        self._counts = torch.zeros(workers + 1, dtype=torch.int64).share_memory_()

    @property
    def count(self) -> int:
        """Sum the replaced draws of all processes."""
        return int(self._counts.sum())

    def report(self, problem: str, instead: str = "other views are") -> None:
        """Count a replaced draw, and warn of its problem and of the replacement."""
        worker = get_worker_info()
        self._counts[0 if worker is None else worker.id + 1] += 1
        if problem not in self._warned:
            self._warned.add(problem)
            _log.warning("%s; %s used instead", problem, instead)


class Replacing(Protocol):
    """A training set that counts the draws it replaces."""

    replacements: Replacements


class ReportsReplacements:
    """A mixin for data modules that replace unreadable training draws and report their number."""

    _train_set: Replacing | None = None

    @property
    def replaced_draws(self) -> int:
        """Return the number of training draws replaced so far because one of their frames could not be read."""
        return self._train_set.replacements.count if self._train_set else 0

    def teardown(self, stage: str) -> None:
        """Warn of the number of replaced draws after training."""
        if self.replaced_draws:
            rank_zero_warn(
                f"{counted(self.replaced_draws, 'training draw')} replaced, since frames could not be read"
            )
