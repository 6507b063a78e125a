"""Counts what training replaces because it cannot be read, in all worker processes."""

import logging
from typing import Protocol

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch.utils.data import get_worker_info

_log = logging.getLogger(__name__)


class Replacements:
    """How many draws were replaced; each problem is named once, in a warning of each worker.

    Args:
        workers: number of worker processes.
    """

    def __init__(self, workers: int) -> None:
        self._warned: set[str] = set()
        # In memory that workers share: each counts in a place of its own, the main process in the first.
        self._counts = torch.zeros(workers + 1, dtype=torch.int64).share_memory_()

    @property
    def count(self) -> int:
        """The sum over all processes."""
        return int(self._counts.sum())

    def report(self, problem: str, instead: str = "other views are") -> None:
        """Count a draw that is replaced because of a problem, and say what is used instead."""
        worker = get_worker_info()
        self._counts[0 if worker is None else worker.id + 1] += 1
        if problem not in self._warned:
            self._warned.add(problem)
            _log.warning("%s; %s used instead", problem, instead)


class Replacing(Protocol):
    """A training set that counts what it replaces."""

    replacements: Replacements


class ReportsReplacements:
    """For data modules whose training goes on when something cannot be read: they say how often it was so."""

    _train_set: Replacing | None = None

    @property
    def replaced_draws(self) -> int:
        """How many training draws have been replaced so far because a frame of theirs could not be read."""
        return self._train_set.replacements.count if self._train_set else 0

    def teardown(self, stage: str) -> None:
        """Say how often frames could not be read in training."""
        if self.replaced_draws:
            rank_zero_warn(f"{self.replaced_draws} training draws were replaced: their frames could not be read")
