"""A resumed training is the uninterrupted one, wherever it stopped."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import OnExceptionCheckpoint
from small_training import Events, averaging, differing, load, saving, train

# Every way to end a pass, to validate and to gather that changes what a checkpoint has to know.
COURSES: dict[str, dict[str, Any]] = {
    "validation every 2 batches": {"max_steps": 7},
    "validation at the end of a pass": {"max_steps": 7, "val_check_interval": 1.0, "check_val_every_n_epoch": 1},
    "validation every second pass": {"max_epochs": 3, "val_check_interval": 1.0, "check_val_every_n_epoch": 2},
    "no validation": {"max_epochs": 2, "limit_val_batches": 0},
    "gathering 2 batches": {"max_steps": 4, "accumulate_grad_batches": 2, "val_check_interval": 3},
}


def averages(course: str) -> Callback:
    return averaging(update_starting_at_epoch=1, update_every_n_steps=2)


def after(events: list[tuple[Any, ...]], step: int) -> list[tuple[Any, ...]]:
    """What happens after the batch that made a step."""
    last = max(i for i, event in enumerate(events) if event[:2] == ("batch", step) and is_step(events, i))
    return events[last + 1 :]


def is_step(events: list[tuple[Any, ...]], index: int) -> bool:
    """Whether a batch is the first with its step, which is the one that made it."""
    return all(event[:2] != events[index][:2] for event in events[:index] if event[0] == "batch")


@pytest.mark.parametrize("course", COURSES)
def test_from_every_step_on_all_is_as_in_one_run(tmp_path: Path, course: str) -> None:
    whole = Events()
    options = COURSES[course]
    steps = train(tmp_path, averages(course), whole, saving(tmp_path / "whole"), **options).global_step
    assert steps >= 4
    for step in range(1, steps):
        resumed = Events()
        folder = tmp_path / f"from_{step}"
        start = tmp_path / "whole" / f"{step}.ckpt"
        train(tmp_path, averages(course), resumed, saving(folder), ckpt_path=start, **options)
        assert resumed.seen == after(whole.seen, step)
        for later in range(step + 1, steps + 1):
            assert not differing(load(folder / f"{later}.ckpt"), load(tmp_path / "whole" / f"{later}.ckpt"))


class Interrupts(Callback):
    """Fails at a hook, in or after the batch of a number.

    Args:
        hook: name of the hook.
        batch: the batch, counted from 0.
    """

    def __init__(self, hook: str, batch: int) -> None:
        def fail(trainer: Trainer, *rest: Any, **more: Any) -> None:
            if trainer.fit_loop.total_batch_idx >= batch:
                raise ZeroDivisionError

        setattr(self, hook, fail)


@pytest.mark.parametrize("gathered", [1, 2])
@pytest.mark.parametrize(
    "hook",
    [
        "on_train_batch_start",
        "on_train_batch_end",
        "on_before_backward",
        "on_validation_start",
        "on_validation_batch_start",
        "on_validation_epoch_end",
        "on_train_epoch_end",
    ],
)
def test_what_is_saved_when_something_fails_is_resumed_exactly(tmp_path: Path, hook: str, gathered: int) -> None:
    last = {1: 7, 2: 5}[gathered]
    options = {"max_steps": last, "accumulate_grad_batches": gathered, "val_check_interval": 3}
    whole, failed, resumed = Events(), Events(), Events()
    train(tmp_path, averaging(), whole, saving(tmp_path / "whole"), **options)
    crashed = saving(tmp_path / "crashed", every=100, save_on_exception=True)
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, averaging(), failed, Interrupts(hook, 4), crashed, **options)
    (saved,) = (tmp_path / "crashed").glob("*.ckpt")
    step = load(saved)["global_step"]
    assert step == len({event[1] for event in failed.seen if event[0] == "batch"} - {0})
    assert not differing(load(saved), load(tmp_path / "whole" / f"{step}.ckpt"), but="dfm_position")
    train(tmp_path, averaging(), resumed, saving(tmp_path / "resumed"), ckpt_path=saved, **options)
    assert not differing(load(tmp_path / "resumed" / f"{last}.ckpt"), load(tmp_path / "whole" / f"{last}.ckpt"))
    # All happens, and nothing twice but what led to no step before the failure.
    assert [event for event in whole.seen if event in failed.seen or event in resumed.seen] == whole.seen
    assert resumed.seen == whole.seen[-len(resumed.seen) :]
    assert not [event for event in resumed.seen if event[0] == "batch" and event[1] < step]


@pytest.mark.parametrize("ending", [{"max_steps": 6}, {"max_epochs": 2}], ids=str)
def test_the_last_validation_of_all_is_made_up(tmp_path: Path, ending: dict[str, int]) -> None:
    whole, resumed = Events(), Events()
    train(tmp_path, whole, **ending)
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, Interrupts("on_validation_start", 5), saving(tmp_path / "ck", 2), **ending)
    train(tmp_path, resumed, ckpt_path=tmp_path / "ck" / "6.ckpt", enable_checkpointing=False, **ending)
    assert resumed.seen == after(whole.seen, 6)
    assert [event[:2] for event in resumed.seen] == [("validation", 6), ("epoch end", 1)]


def test_nothing_is_saved_of_a_step_that_is_half_done(tmp_path: Path) -> None:
    for hook in ("on_before_optimizer_step", "on_train_batch_end"):
        crashed = saving(tmp_path / hook, every=100, save_on_exception=True)
        also = OnExceptionCheckpoint(tmp_path / hook)
        with pytest.raises(ZeroDivisionError):
            train(tmp_path, Interrupts(hook, 4), averaging(), crashed, also, max_steps=6)
        assert not (tmp_path / hook).exists()
