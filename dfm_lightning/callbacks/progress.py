"""Show the progress of a run, and the time left."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dfm_lightning.sampling import Predictor
from dfm_lightning.sampling.plan import Withdraw

# Slow iterations take minutes: rich's default of half a minute would not span two of them.
SPEED_SECONDS = 1800.0


class Meter:
    """Rows of progress with the time left: bars on a terminal, otherwise occasional lines of text.

    Args:
        plain_interval: seconds between lines of text.
    """

    def __init__(self, plain_interval: float = 30.0) -> None:
        console = Console(stderr=True)
        self.plain = not console.is_terminal
        self.plain_interval = plain_interval
        self._spoken = time.monotonic()
        self._last_line = ""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=False,
            speed_estimate_period=SPEED_SECONDS,
            disable=self.plain,
        )
        self._progress.start()

    def add(self, name: str, total: float | int | None, done: int = 0) -> TaskID:
        """Add a row, part of which may be done already; `total` is None if unknown."""
        return self._progress.add_task(name, total=total, completed=done, note="")

    def update(self, row: TaskID, done: float | int, note: str = "") -> None:
        """Set a row to `done`."""
        self._progress.update(row, completed=done, note=note)
        task = self._progress.tasks[self._progress.task_ids.index(row)]
        due = time.monotonic() - self._spoken >= self.plain_interval
        if self.plain and (due or (task.finished and not task.description.startswith(" "))):
            self._spoken = time.monotonic()
            line = plain_line(task)
            if line != self._last_line:  # a finished row may be updated again
                self._progress.console.print(line, soft_wrap=True, highlight=False)
            self._last_line = line

    def set_total(self, row: TaskID, total: float | int) -> None:
        """Correct the length of a row."""
        self._progress.update(row, total=total)

    def remove(self, row: TaskID) -> None:
        """Remove a row."""
        self._progress.remove_task(row)

    def stop(self) -> None:
        """End the display."""
        self._progress.stop()


def plain_line(task: Task) -> str:
    """Format a row as a line of text."""
    total = "?" if task.total is None else f"{task.total:g}"
    left = "unknown" if task.time_remaining is None else clock(task.time_remaining)
    done = f"{task.description} {task.completed:g}/{total}"
    parts = [done, f"elapsed {clock(task.elapsed or 0)}", f"left {left}"]
    return ", ".join([*parts, task.fields["note"]] if task.fields["note"] else parts)


def clock(seconds: float | int) -> str:
    """Format seconds as hours:minutes:seconds."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def batch_work(pl_module: LightningModule, batch: Any) -> tuple[float, float]:
    """Count the pieces of work in a batch, in total and without finished samples."""
    if not isinstance(pl_module, Predictor):
        return 1.0, 1.0
    whole = float(pl_module.work(batch))
    pending = sum(len(pl_module.plan.pending(key, pl_module.samples)) for key in batch.key)
    return whole, whole * pending / (len(batch.key) * pl_module.samples)


class TimeLeft(ProgressBar):
    """Show progress of the whole run, not of an epoch: iterations in training, pieces of work in test and predict.

    The pieces of work are the model's own (denoising steps, renderings), since a batch may take an hour. Future
    batches count as much as the current one, until they turn out to be finished already.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._meter: Meter | None = None
        self._rows: dict[str, TaskID] = {}
        self._batches, self._all_batches = 0, 0
        self._done, self._done_after_batch = 0.0, 0.0
        self._withdraw: Withdraw | None = None

    def disable(self) -> None:
        """Hide progress (Lightning calls this in all processes but one)."""
        self._enabled = False

    def enable(self) -> None:
        """Show progress."""
        self._enabled = True

    # --- Lightning's hooks ------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        steps = trainer.estimated_stepping_batches
        self._add("run", "training", None if steps == float("inf") else steps, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See `Callback`."""
        self._update("run", trainer.global_step, self._loss(trainer))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        name = "  validating" if trainer.state.fn == "fit" else "validating"
        self._add("validation", name, sum(batches))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """See `Callback`."""
        self._update("validation", batch_idx + 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        if trainer.state.fn == "fit":
            self._remove("validation")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        self._begin_batches("testing", sum(trainer.num_test_batches), pl_module)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """See `Callback`."""
        self._begin_batch(pl_module, batch)

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """See `Callback`."""
        self._end_batch()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        self._begin_batches("predicting", sum(trainer.num_predict_batches), pl_module)

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """See `Callback`."""
        self._begin_batch(pl_module, batch)

    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """See `Callback`."""
        self._end_batch()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """See `Callback`."""
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See `Callback`."""
        self._stop()

    # --- rows -------------------------------------------------------------------------------------------

    def _begin_batches(self, name: str, batches: float | int, pl_module: LightningModule) -> None:
        self._batches, self._all_batches = 0, int(batches)
        self._done = 0.0
        self._add("run", name, batches)
        if isinstance(pl_module, Predictor):
            self._withdraw = pl_module.plan.follow(self._worked)

    def _begin_batch(self, pl_module: LightningModule, batch: Any) -> None:
        whole, unfinished = batch_work(pl_module, batch)
        self._done_after_batch = self._done + unfinished
        if self._meter is not None and "run" in self._rows:
            after = self._all_batches - self._batches - 1
            self._meter.set_total(self._rows["run"], self._done_after_batch + after * whole)

    def _worked(self, pieces: float | int) -> None:
        self._done += pieces
        self._update("run", self._done, f"batch {self._batches + 1} of {self._all_batches}")

    def _end_batch(self) -> None:
        self._worked(self._done_after_batch - self._done)
        self._batches += 1

    def _loss(self, trainer: Trainer) -> str:
        loss = trainer.callback_metrics.get("train/loss")
        return "" if loss is None else f"loss {float(loss):.4f}"

    def _add(self, row: str, name: str, total: float | int | None, done: int = 0) -> None:
        if self._enabled:
            self._meter = self._meter or Meter()
            self._remove(row)
            self._rows[row] = self._meter.add(name, total, done)

    def _update(self, row: str, done: float | int, note: str = "") -> None:
        if self._meter is not None and row in self._rows:
            self._meter.update(self._rows[row], done, note)

    def _remove(self, row: str) -> None:
        if self._meter is not None and row in self._rows:
            self._meter.remove(self._rows.pop(row))

    def _stop(self) -> None:
        if self._meter is not None:
            self._meter.stop()
        self._meter = None
        self._rows = {}
        if self._withdraw is not None:
            self._withdraw()
        self._withdraw = None
