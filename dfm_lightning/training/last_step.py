"""Save the last step of a training, and other steps that Lightning's `ModelCheckpoint` would miss."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from dfm_lightning.training.position import pass_finished

# Quantities that are current at the saved step, unlike those of the last validation.
_CURRENT = (None, "step", "epoch")


class SaveLastStep(Callback):
    """Make every `ModelCheckpoint` save the last step, whatever its interval, and the steps it postponed.

    This callback must come first, before any callback changes the model at the end of a training or an epoch.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Assign `last.ckpt` to this training, and do not save again the step that it continues from.

        A `last.ckpt` of another training is kept under another name when it is replaced.
        """
        for callback in _savers(trainer):
            if (
                trainer.ckpt_path
                and callback.monitor in _CURRENT
                and _lies_in(trainer.ckpt_path, callback.dirpath)
            ):
                callback._last_global_step_saved = trainer.global_step
                callback._last_checkpoint_saved = str(trainer.ckpt_path)
            name = callback.CHECKPOINT_NAME_LAST
            if callback.save_last and "{" not in name:
                callback.last_model_path = callback.format_checkpoint_name({}, name)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """See `Callback`."""
        self._save_what_was_put_off(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        self._save_what_was_put_off(trainer)
        if not pass_finished(trainer):  # training ends within an epoch, which is not over
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        self._save(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the record of a `ModelCheckpoint` whose interval was changed."""
        # (Lightning identifies one by its settings.)
        states = checkpoint.get("callbacks", {})
        if trainer.state.fn != TrainerFn.FITTING:
            return
        for callback in _savers(trainer):
            if callback.state_key in states:
                continue
            for key, state in list(states.items()):
                same = isinstance(state, dict) and all(
                    name in state and state[name] == getattr(callback, name) for name in ("dirpath", "monitor")
                )
                if same and key.startswith(type(callback).__qualname__) and f"'mode': {callback.mode!r}" in key:
                    states[callback.state_key] = states.pop(key)
                    break

    def _save_what_was_put_off(self, trainer: Trainer) -> None:
        """Save a step that waited for a validation that did not come; later, another step would be saved."""
        for callback in _savers(trainer):
            if not callback._defer_save_until_validation or callback._should_skip_saving_checkpoint(trainer):
                continue
            candidates = _candidates(callback, trainer)
            if callback.monitor in candidates:
                callback._defer_save_until_validation = False
                callback._save_topk_checkpoint(trainer, candidates)
            callback._save_last_checkpoint(trainer, candidates)

    def _save(self, trainer: Trainer) -> None:
        for callback in _savers(trainer):
            if callback._should_skip_saving_checkpoint(trainer) or not (callback.save_top_k or callback.save_last):
                continue
            candidates = _candidates(callback, trainer)
            if callback.monitor in _CURRENT:
                callback._save_topk_checkpoint(trainer, candidates)
            saved = callback._last_global_step_saved == trainer.global_step
            # An unmeasured step cannot be among the best; it is saved as the last one.
            with _saving_last(callback, callback.save_last if saved else True):
                callback._save_last_checkpoint(trainer, candidates)


def _savers(trainer: Trainer) -> list[ModelCheckpoint]:
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]


def _candidates(callback: ModelCheckpoint, trainer: Trainer) -> dict[str, torch.Tensor]:
    """Return the values that a file's name may contain; the epoch is the step's own, even once it is over."""
    epoch = trainer.fit_loop.epoch_progress.current.ready - 1
    return {**callback._monitor_candidates(trainer), "epoch": torch.tensor(epoch)}


def _lies_in(path: Any, folder: Any) -> bool:
    return None not in (path, folder) and Path(path).resolve().parent == Path(folder).resolve()


@contextmanager
def _saving_last(callback: ModelCheckpoint, save_last: Any) -> Iterator[None]:
    given = callback.save_last
    callback.save_last = save_last
    if save_last and not given:
        callback.last_model_path = callback.format_checkpoint_name({}, callback.CHECKPOINT_NAME_LAST)
    try:
        yield
    finally:
        callback.save_last = given
