"""Every training's last step is saved, whole, and in nobody else's place."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from small_training import Events, averaging, differing, load, saving, train

from dfm_lightning.errors import UserError
from dfm_lightning.training.notices import newest_checkpoint


class StopsAfter(Callback):
    """Asks the trainer to stop, as early stopping and a time limit do.

    Args:
        hook: where.
        step: after which step.
    """

    def __init__(self, hook: str, step: int) -> None:
        def stop(trainer: Trainer, *rest: Any) -> None:
            trainer.should_stop = trainer.should_stop or trainer.global_step >= step

        setattr(self, hook, stop)


class Saves(Callback):
    """Counts the checkpoints of each step."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.steps.append(checkpoint["global_step"])


ENDINGS: dict[str, tuple[int, dict[str, Any], list[Callback]]] = {
    "max_steps": (5, {"max_steps": 5}, []),
    "max_steps at the interval": (4, {"max_steps": 4}, []),
    "max_epochs": (3, {"max_epochs": 1}, []),
    "stopped after a batch": (5, {"max_steps": 9}, [StopsAfter("on_train_batch_end", 5)]),
    "stopped by a validation": (6, {"max_steps": 9}, [StopsAfter("on_validation_end", 5)]),
    "stopped while gathering": (
        2,
        {"max_steps": 9, "accumulate_grad_batches": 3, "val_check_interval": 5},
        [StopsAfter("on_validation_end", 1)],
    ),
}
SAVERS: dict[str, dict[str, Any]] = {
    "last alone": {"save_last": True, "save_top_k": 0},
    "all": {"save_top_k": -1},
    "newest": {"save_top_k": 1},
    "best": {"monitor": "val/loss", "save_top_k": 1},
    "linked": {"save_last": "link", "monitor": "val/loss", "save_top_k": 1},
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_last_step_is_saved_once_however_training_ends(tmp_path: Path, ending: str) -> None:
    step, options, callbacks = ENDINGS[ending]
    saves = Saves()
    trainer = train(
        tmp_path,
        *callbacks,
        averaging(),
        saves,
        saving(tmp_path / "ck", 2, save_last=True, save_top_k=0),
        **options,
    )
    if ending == "stopped while gathering":
        step = trainer.global_step
    assert trainer.global_step == step
    assert load(tmp_path / "ck" / "last.ckpt")["global_step"] == step
    assert newest_checkpoint(trainer) == tmp_path / "ck" / "last.ckpt"
    assert saves.steps.count(step) == 1


@pytest.mark.parametrize("kind", SAVERS)
def test_every_kind_of_saver_saves_the_last_step(tmp_path: Path, kind: str) -> None:
    trainer = train(tmp_path, saving(tmp_path / "ck", 2, **SAVERS[kind]), max_steps=5)
    newest = newest_checkpoint(trainer)
    assert newest is not None
    assert load(newest)["global_step"] == 5
    steps = sorted(load(path)["global_step"] for path in (tmp_path / "ck").iterdir() if not path.is_symlink())
    if kind == "all":
        assert steps == [2, 4, 5]
    if kind == "newest":
        assert steps == [5]
    if kind in ("best", "linked"):
        assert newest.name == "last.ckpt"
        assert len(steps) == 2


@pytest.mark.parametrize(
    "interval",
    [{"every_n_epochs": 2}, {"train_time_interval": timedelta(days=1)}, {"every_n_train_steps": 1000}],
    ids=["epochs", "time", "steps"],
)
def test_no_interval_is_too_long(tmp_path: Path, interval: dict[str, Any]) -> None:
    trainer = train(tmp_path, ModelCheckpoint(dirpath=tmp_path / "ck", **interval), max_steps=4)
    newest = newest_checkpoint(trainer)
    assert newest is not None
    assert load(newest)["global_step"] == 4


def test_without_a_saver_lightnings_own_saves_the_last_step(tmp_path: Path) -> None:
    newest = newest_checkpoint(train(tmp_path, max_steps=4))
    assert newest == tmp_path / "checkpoints" / "epoch=1-step=4.ckpt"
    assert load(newest)["global_step"] == 4


def test_the_last_steps_weights_are_those_that_training_goes_on_with(tmp_path: Path) -> None:
    train(tmp_path, averaging(update_starting_at_epoch=0), saving(tmp_path / "long"), max_steps=5)
    train(tmp_path, averaging(update_starting_at_epoch=0), saving(tmp_path / "short", 100), max_steps=4)
    assert not differing(
        load(tmp_path / "short" / "4.ckpt"), load(tmp_path / "long" / "4.ckpt"), but="dfm_position"
    )
    train(
        tmp_path,
        averaging(update_starting_at_epoch=0),
        saving(tmp_path / "on"),
        max_steps=5,
        ckpt_path=tmp_path / "short" / "4.ckpt",
    )
    assert not differing(load(tmp_path / "on" / "5.ckpt"), load(tmp_path / "long" / "5.ckpt"))


def test_a_save_that_is_put_off_is_not_lost(tmp_path: Path) -> None:
    # Lightning waits at the end of a pass for a validation, which comes two batches later, if at all.
    saver = saving(tmp_path / "ck", 3, monitor="step", mode="max", filename="{step}-{epoch}", save_last=True)
    train(tmp_path, averaging(), saver, max_steps=9, val_check_interval=5)
    assert {path.name for path in (tmp_path / "ck").iterdir()} == {"3-0.ckpt", "6-1.ckpt", "9-2.ckpt", "last.ckpt"}
    train(tmp_path, averaging(), saving(tmp_path / "ref", 3), max_steps=9, val_check_interval=5)
    for name, other in (("3-0", "3"), ("6-1", "6")):
        assert not differing(load(tmp_path / "ck" / f"{name}.ckpt"), load(tmp_path / "ref" / f"{other}.ckpt"))


def test_weights_alone_are_the_averaged_ones(tmp_path: Path) -> None:
    train(tmp_path, averaging(), saving(tmp_path / "all"), max_steps=3)
    train(tmp_path, averaging(), saving(tmp_path / "weights", save_weights_only=True), max_steps=3)
    weights = load(tmp_path / "weights" / "3.ckpt")
    assert not differing(weights["state_dict"], load(tmp_path / "all" / "3.ckpt")["state_dict"])
    assert not {"optimizer_states", "current_model_state"} & weights.keys()


# --- files ------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_stops_the_training(tmp_path: Path) -> None:
    (tmp_path / "ck").write_text("a file")
    events = Events()
    with pytest.raises(UserError, match=r"ck/2\.ckpt"):
        train(tmp_path, events, saving(tmp_path / "ck", 2), max_steps=9)
    assert max(event[1] for event in events.seen if event[0] == "batch") == 2


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, saving(tmp_path / "ck", 2, save_last=True, save_top_k=0), max_steps=2)
    good = (tmp_path / "ck" / "last.ckpt").read_bytes()
    save = torch.save

    def full(content: Any, file: Any) -> None:
        save(content, file)
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="no space left"):
        train(tmp_path, saving(tmp_path / "ck", 2, save_last=True, save_top_k=0), max_steps=9)
    assert (tmp_path / "ck" / "last.ckpt").read_bytes() == good
    assert [path.name for path in (tmp_path / "ck").iterdir()] == ["last.ckpt"]


def test_the_temporary_folder_plays_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    train(tmp_path, saving(tmp_path / "ck"), max_steps=1)
    assert load(tmp_path / "ck" / "1.ckpt")["global_step"] == 1


def test_at_every_moment_there_is_a_whole_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = tmp_path / "ck" / "last.ckpt"
    seen = []

    def watched(call: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            if last.parent.is_dir():
                seen.append(load(last)["global_step"] if last.exists() else None)
            return result

        return run

    for name in ("replace", "link", "rename", "unlink", "remove"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    for _ in range(2):
        train(tmp_path, saving(last.parent, 2, save_last=True, save_top_k=1), max_steps=4)
    first = seen.index(2)
    assert None not in seen[first:]
    assert seen[-1] == 4


# --- other trainings --------------------------------------------------------------------------------------


def last_saver(folder: Path, every: int = 2) -> ModelCheckpoint:
    return saving(folder / "ck", every, save_last=True, save_top_k=0)


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "ck").iterdir()}


def test_last_is_of_the_newest_training_and_the_older_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, last_saver(tmp_path), max_steps=5)
    assert "another training" not in capsys.readouterr().err
    older = (tmp_path / "ck" / "last.ckpt").read_bytes()
    with pytest.raises(ZeroDivisionError):  # before the first save, nothing is touched
        train(tmp_path, last_saver(tmp_path), FailsAt(1), max_steps=3)
    assert names(tmp_path) == {"last.ckpt"}
    assert (tmp_path / "ck" / "last.ckpt").read_bytes() == older
    train(tmp_path, last_saver(tmp_path), max_steps=3)
    assert names(tmp_path) == {"last.ckpt", "last-older-1.ckpt"}
    assert load(tmp_path / "ck" / "last.ckpt")["global_step"] == 3
    assert (tmp_path / "ck" / "last-older-1.ckpt").read_bytes() == older
    assert [line for line in capsys.readouterr().err.splitlines() if "last-older-1.ckpt" in line]
    train(tmp_path, last_saver(tmp_path), max_steps=1)
    assert names(tmp_path) == {"last.ckpt", "last-older-1.ckpt", "last-older-2.ckpt"}


def test_a_training_that_is_continued_replaces_its_own_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, last_saver(tmp_path), max_steps=3)
    last = tmp_path / "ck" / "last.ckpt"
    for steps, every in ((5, 2), (7, 3)):  # as before, and at another interval
        train(tmp_path, last_saver(tmp_path, every), max_steps=steps, ckpt_path=last)
        assert names(tmp_path) == {"last.ckpt"}
        assert load(last)["global_step"] == steps
    # In a folder that was moved.
    (tmp_path / "ck").rename(tmp_path / "moved")
    moved = tmp_path / "moved" / "last.ckpt"
    train(tmp_path, saving(tmp_path / "moved", 2, save_last=True, save_top_k=0), max_steps=8, ckpt_path=moved)
    assert [path.name for path in moved.parent.iterdir()] == ["last.ckpt"]
    assert load(moved)["global_step"] == 8
    assert "another training" not in capsys.readouterr().err


def test_a_finished_training_is_not_saved_again(tmp_path: Path) -> None:
    last = tmp_path / "ck" / "4.ckpt"
    train(tmp_path, saving(tmp_path / "ck", 2), max_steps=4)
    events = Events()
    trainer = train(tmp_path, events, saving(tmp_path / "ck", 2), max_steps=4, ckpt_path=last)
    assert names(tmp_path) == {"2.ckpt", "4.ckpt"}
    assert newest_checkpoint(trainer) == last
    assert {event[0] for event in events.seen} <= {"validation"}


def test_a_changed_interval_forgets_no_best_checkpoint(tmp_path: Path) -> None:
    def best(every: int) -> ModelCheckpoint:
        return saving(tmp_path / "ck", every, monitor="step", mode="max", save_top_k=2)

    train(tmp_path, best(2), max_steps=4)
    assert names(tmp_path) == {"2.ckpt", "4.ckpt"}
    saver = best(3)
    train(tmp_path, saver, max_steps=6, ckpt_path=tmp_path / "ck" / "4.ckpt")
    assert {Path(path).name for path in saver.best_k_models} == {"4.ckpt", "6.ckpt"}
    assert names(tmp_path) == {"4.ckpt", "6.ckpt"}


class FailsAt(Callback):
    """Fails in a batch.

    Args:
        batch: its number.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.batch:
            raise ZeroDivisionError
