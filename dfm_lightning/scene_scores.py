"""Scores of a test, gathered scene by scene; the number of processes changes no score."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import Metric

from dfm_lightning.errors import UserError

# Hooks that measure batch by batch; values logged in other hooks already cover all scenes.
_BY_BATCH = ("on_test_batch_start", "test_step", "on_test_batch_end")


class Logged(NamedTuple):
    """A value logged for a batch of scenes: its weight in the mean, or its other reduction."""

    value: float
    weight: float
    reduction: Any


class SceneScores:
    """The scores of scenes by name, and the values logged for batches of scenes.

    A scene counts once, however many processes received it (samplers repeat some if scenes cannot be divided
    evenly).
    """

    def __init__(self) -> None:
        self.scenes: dict[str, dict[str, float]] = {}
        # By name, keys of the batch, and the number of earlier values of this name in the batch.
        self.logged: dict[tuple[str, tuple[str, ...], int], Logged] = {}
        self._batch: tuple[str, ...] = ()
        self._counts: dict[str, int] = {}
        self._gathered: SceneScores | None = None

    def begin_batch(self, keys: Iterable[str]) -> None:
        """Set the scenes that the following values are logged for."""
        self._batch = tuple(keys)
        self._counts = {}

    def add(self, key: str, scores: dict[str, Any]) -> None:
        """Add a scene's scores by name to those it has."""
        self.scenes.setdefault(key, {}).update({name: float(value) for name, value in scores.items()})

    def log(self, name: str, value: Any, weight: float | int | None, reduction: Any) -> None:
        """Store a value of the current batch; by default it is weighted by the batch's number of scenes."""
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        weight = len(self._batch) if weight is None else weight
        self.logged[name, self._batch, number] = Logged(float(value), weight, reduction)

    def gathered(self) -> "SceneScores":
        """Return those of all processes. Each process must call this once at any time; only the first call
        synchronises.
        """
        if self._gathered is None:
            self._gathered = SceneScores()
            for scenes, logged in _from_all_processes((self.scenes, self.logged)):
                self._gathered.scenes.update(scenes)
                self._gathered.logged.update(logged)
        return self._gathered

    def averages(self) -> dict[str, float]:
        """Average each score over the scenes that have it, as "test/NAME"; add all logged values."""
        scores: dict[str, list[float]] = {}
        for scene in self.scenes.values():
            for name, value in scene.items():
                scores.setdefault(f"test/{name}", []).append(value)
        logged: dict[str, list[Logged]] = {}
        for (name, _, _), entry in sorted(self.logged.items(), key=lambda item: item[0]):
            logged.setdefault(name, []).append(entry)
        # Sums that do not depend on the order.
        means = {name: math.fsum(values) / len(values) for name, values in scores.items()}
        return {**means, **{name: _reduced(entries) for name, entries in logged.items()}}


class ScoresScenes(LightningModule):
    """A LightningModule whose test gives the same result on any number of processes, even if some have no scene.

    `test_step` may return scores scene by scene, as `{"scores": {key: {name: number}}}`, or log them as usual:
    logged values are gathered from all processes at the end, whatever `sync_dist` says. (Metrics of torchmetrics
    gather themselves.)
    """

    scene_scores: SceneScores

    # (Arguments it does not inspect are passed on unnamed.)
    def log(  # type: ignore[override]
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str | Callable = "mean",
        **options: Any,
    ) -> None:
        """See `LightningModule.log`; what a test logs for a batch is stored until all processes are done."""
        trainer = self._trainer
        by_batch = trainer is not None and trainer.testing and self._current_fx_name in _BY_BATCH
        if not by_batch or on_epoch is False or isinstance(value, Metric):
            super().log(name, value, prog_bar, logger, on_step, on_epoch, reduce_fx, **options)
            return
        if on_step:
            super().log(f"{name}_step", value, prog_bar, logger, True, False, reduce_fx, **options)
        if isinstance(value, dict):
            for part, number in value.items():
                self.scene_scores.log(f"{name}.{part}", number, options.get("batch_size"), reduce_fx)
        else:
            self.scene_scores.log(name, value, options.get("batch_size"), reduce_fx)

    def on_test_start(self) -> None:
        """Discard the scores of an earlier test."""
        self.scene_scores = SceneScores()

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Register the scenes to be scored."""
        self.scene_scores.begin_batch(batch.key)

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Store the scores that `test_step` returned."""
        for key, scores in scores_in(outputs).items():
            self.scene_scores.add(key, scores)

    def on_test_epoch_end(self) -> None:
        """Log the averages over the scenes of all processes, which every process knows."""
        averages = self.scene_scores.gathered().averages()
        # Without reduction: a process without scenes is not here to take part.
        self.log_dict(averages, sync_dist=True, rank_zero_only=True)

    def teardown(self, stage: str) -> None:
        """Let a process without scenes, which skipped all other hooks, take part in the exchange."""
        if stage == "test":
            self.scene_scores.gathered()
            self.scene_scores = SceneScores()


def scores_in(outputs: Any) -> dict[str, dict[str, Any]]:
    """Return the scores by scene in the result of a `test_step`, if it has any.

    Raises:
        UserError: they are not numbers by name.
    """
    scores = outputs.get("scores", {}) if isinstance(outputs, dict) else {}
    if not isinstance(scores, dict) or not all(isinstance(scene, dict) for scene in scores.values()):
        raise UserError('test_step gives scores as {"scores": {key: {name: number}}}, a dictionary for each scene')
    for key, scene in scores.items():
        for name, value in scene.items():
            if isinstance(value, Tensor) and value.numel() != 1:
                raise UserError(
                    f"the score '{name}' of scene '{key}' is a number, but has shape {tuple(value.shape)}"
                )
    return scores


def _from_all_processes(mine: Any) -> list[Any]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, mine)
    return parts


def _reduced(entries: list[Logged]) -> float:
    reduction = entries[0].reduction
    if reduction in ("mean", torch.mean):
        return math.fsum(e.value * e.weight for e in entries) / math.fsum(e.weight for e in entries)
    function = getattr(torch, reduction) if isinstance(reduction, str) else reduction
    return float(function(torch.tensor([entry.value for entry in entries], dtype=torch.float64)))
