"""A resumed training uses the settings that are given now: the optimizer's, the gathering of gradients."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.cli import ReduceLROnPlateau
from small_training import Events, averaging, differing, load, saving, train
from toy_problem import LinearDenoiser, Signals, Slope, Task

from datamodules.loading import training_loader
from dfm_lightning.errors import UserError
from dfm_lightning.optimizers import AdamWithWarmup, TorchOptimizer


def rates(events: Events) -> dict[int, float]:
    """The rate of the schedule after each step."""
    return {event[1]: event[3] for event in events.seen if event[0] == "batch"}


@pytest.mark.parametrize(
    "given",
    [
        {"learning_rate": 0.002},
        {"learning_rate": 0.01, "decay": "cosine"},
        {"learning_rate": 0.003, "warmup_steps": 6},
        {"learning_rate": 0.01, "betas": (0.5, 0.6)},
    ],
    ids=str,
)
def test_the_optimizer_is_as_given_now(
    tmp_path: Path, given: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    first = AdamWithWarmup(learning_rate=0.01, warmup_steps=2)
    train(tmp_path, saving(tmp_path / "ck", 3), optimizer=first, max_steps=3)
    now = AdamWithWarmup(**{"warmup_steps": 2, **given})
    events, saver = Events(), saving(tmp_path / "on", 8)
    train(tmp_path, events, saver, optimizer=now, max_steps=8, ckpt_path=tmp_path / "ck" / "3.ckpt")
    # The schedule's own course, at these steps.
    assert rates(events) == {step: now.learning_rate * now.rate_factor(step, lambda: 8) for step in range(4, 9)}
    (group,) = load(tmp_path / "on" / "8.ckpt")["optimizer_states"][0]["param_groups"]
    assert tuple(group["betas"]) == now.betas
    assert group["initial_lr"] == now.learning_rate
    said = [line for line in capsys.readouterr().err.splitlines() if "given now" in line]
    differs = now.learning_rate != 0.01 or now.betas != first.betas
    assert len(said) == differs


class OwnOptimizer(Task):
    """Configures an optimizer without a schedule.

    Args:
        decay: of the weights.
    """

    def __init__(self, rate: float, decay: float) -> None:
        super().__init__(LinearDenoiser(), Slope())
        self.rate, self.decay = rate, decay

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=self.rate, weight_decay=self.decay)


def test_an_optimizer_of_ones_own_is_as_given_now(tmp_path: Path) -> None:
    train(tmp_path, saving(tmp_path / "ck"), module=OwnOptimizer(0.01, 0.1), max_steps=1)
    options: dict[str, Any] = {"max_steps": 2, "ckpt_path": tmp_path / "ck" / "1.ckpt"}
    train(tmp_path, saving(tmp_path / "on"), module=OwnOptimizer(0.002, 0.3), **options)
    (group,) = load(tmp_path / "on" / "2.ckpt")["optimizer_states"][0]["param_groups"]
    assert (group["lr"], group["weight_decay"]) == (0.002, 0.3)


# --- gathering --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gathered", [2, 4, 8])
def test_a_step_gathers_all_its_batches_across_passes(tmp_path: Path, gathered: int) -> None:
    events = Events()
    train(tmp_path, events, accumulate_grad_batches=gathered, max_steps=3, limit_val_batches=0)
    batches = [event for event in events.seen if event[0] == "batch"]
    assert len(batches) == 3 * gathered
    seen = [key for event in batches for key in event[4]]
    assert all(len(set(seen[i : i + 12])) == 12 for i in range(0, len(seen) - 11, 12))  # still whole passes


def test_a_schedule_of_gathering_is_kept_too(tmp_path: Path) -> None:
    events = Events()
    train(tmp_path, events, GradientAccumulationScheduler({0: 1, 1: 4}), max_steps=6, limit_val_batches=0)
    steps = [event[1] for event in events.seen if event[0] == "batch"]
    assert [steps.count(step) for step in (1, 2, 3)] == [1, 1, 1]
    assert steps.count(5) == 4


class OwnLoader(LightningDataModule):
    """Loads with a plain loader."""

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(Signals(12, "train"), 4)


def test_gathering_that_is_cut_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"accumulate_grad_batches": 2, "max_steps": 2, "limit_val_batches": 0}
    train(tmp_path, **options)
    assert "gathers" not in capsys.readouterr().err
    train(tmp_path, limit_train_batches=3, **options)
    assert "3 batches" in capsys.readouterr().err


def test_a_first_step_that_gathers_less_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, saving(tmp_path / "ck"), max_steps=3, batch_size=2)
    for step, only in ((1, "has 3 only"), (2, "has 2 only"), (3, "has 1 only")):
        start, events = tmp_path / "ck" / f"{step}.ckpt", Events()
        options: dict[str, Any] = {"accumulate_grad_batches": 4, "limit_val_batches": 0, "batch_size": 2}
        train(tmp_path, events, max_steps=step + 1, ckpt_path=start, enable_checkpointing=False, **options)
        assert only in capsys.readouterr().err
        assert len([event for event in events.seen if event[0] == "batch"]) == 4 - step


@pytest.mark.parametrize("batches", [0, -1])
def test_gathering_nothing_is_refused(tmp_path: Path, batches: int) -> None:
    with pytest.raises(UserError, match="accumulate_grad_batches"):
        train(tmp_path, accumulate_grad_batches=batches, max_steps=1)


def test_a_loader_holds_whole_steps() -> None:
    loader: Any = training_loader(Signals(12, "train"), 4)
    assert len(loader) == 3
    loader.hold_whole_steps(2)
    assert len(loader) == len(list(loader)) == 4


# --- averages ---------------------------------------------------------------------------------------------


def test_before_averaging_begins_the_averages_are_the_weights(tmp_path: Path) -> None:
    events = Events()
    options: dict[str, Any] = {"max_steps": 5}
    train(tmp_path, averaging(update_starting_at_step=3), events, saving(tmp_path / "late"), **options)
    plain = Events()
    train(tmp_path, plain, saving(tmp_path / "none"), **options)
    for step in (1, 2, 3):
        late, none = load(tmp_path / "late" / f"{step}.ckpt"), load(tmp_path / "none" / f"{step}.ckpt")
        for name, value in none["state_dict"].items():
            assert torch.equal(late["state_dict"][name], value)
            assert torch.equal(late["current_model_state"][name], value)
    # What is validated, too: before averaging, the weights.
    assert events.seen[:4] == plain.seen[:4]
    late = load(tmp_path / "late" / "5.ckpt")
    assert any(not torch.equal(late["current_model_state"][k], v) for k, v in late["state_dict"].items())
    # The training ends with them, if averaging has not begun.
    never = train(tmp_path, averaging(update_starting_at_step=99), max_steps=2).lightning_module
    assert all(
        torch.equal(value, load(tmp_path / "none" / "2.ckpt")["state_dict"][name])
        for name, value in never.state_dict().items()
    )


def test_without_averaging_the_raw_weights_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, averaging(), saving(tmp_path / "ck"), max_steps=3)
    train(tmp_path, saving(tmp_path / "whole"), max_steps=5)
    train(tmp_path, saving(tmp_path / "on"), max_steps=5, ckpt_path=tmp_path / "ck" / "3.ckpt")
    assert "raw" in capsys.readouterr().err
    on, whole = load(tmp_path / "on" / "5.ckpt"), load(tmp_path / "whole" / "5.ckpt")
    assert all(torch.equal(on["state_dict"][name], value) for name, value in whole["state_dict"].items())


# --- any optimizer, any schedule --------------------------------------------------------------------------


def sgd(rate: float = 0.01, **scheduler: Any) -> TorchOptimizer:
    """Momentum and a cosine."""
    course = {"T_max": 8, **scheduler}
    return TorchOptimizer(
        lambda parameters: torch.optim.SGD(parameters, lr=rate, momentum=0.9),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, **course),
    )


def cosine(rate: float, step: int, steps: int) -> float:
    return rate * (1 + math.cos(math.pi * step / steps)) / 2


def test_a_training_with_any_optimizer_is_resumed_exactly(tmp_path: Path) -> None:
    events = Events()
    train(tmp_path, events, saving(tmp_path / "whole"), optimizer=sgd(), max_steps=6)
    assert rates(events) == pytest.approx({step: cosine(0.01, step, 8) for step in range(1, 7)})
    start = tmp_path / "whole" / "3.ckpt"
    train(tmp_path, saving(tmp_path / "on"), optimizer=sgd(), max_steps=6, ckpt_path=start)
    assert differing(load(tmp_path / "on" / "6.ckpt"), load(tmp_path / "whole" / "6.ckpt"), but="loops") == []


@pytest.mark.parametrize(("rate", "steps"), [(0.002, 8), (0.01, 12), (0.003, 16)])
def test_any_schedule_is_as_given_now(
    tmp_path: Path, rate: float, steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, saving(tmp_path / "ck"), optimizer=sgd(), max_steps=3)
    events, start = Events(), tmp_path / "ck" / "3.ckpt"
    train(tmp_path, events, optimizer=sgd(rate, T_max=steps), max_steps=6, ckpt_path=start, limit_val_batches=0)
    assert rates(events) == pytest.approx({step: cosine(rate, step, steps) for step in range(4, 7)})
    said = "".join(line for line in capsys.readouterr().err.splitlines() if "given now" in line)
    assert ("learning rate" in said, "T_max" in said) == (rate != 0.01, steps != 8)


def test_another_kind_of_schedule_goes_on_where_the_first_one_was(tmp_path: Path) -> None:
    adam = AdamWithWarmup(learning_rate=0.01, warmup_steps=2)
    train(tmp_path, saving(tmp_path / "adam"), optimizer=adam, max_steps=3)
    other = TorchOptimizer(
        lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5),
    )
    for now, name, expected in ((other, "adam", [0.0025, 0.0025]), (adam, "step", [0.01, 0.01])):
        events, start = Events(), tmp_path / name / "3.ckpt"
        train(tmp_path, events, saving(tmp_path / "step"), optimizer=now, max_steps=5, ckpt_path=start)
        assert list(rates(events).values()) == pytest.approx(expected)
        train(tmp_path, saving(tmp_path / "step"), optimizer=other, max_steps=3)


def test_the_state_of_another_kind_of_optimizer_is_refused(tmp_path: Path) -> None:
    train(tmp_path, saving(tmp_path / "ck"), optimizer=sgd(), max_steps=1)
    with pytest.raises(UserError, match=r"AdamWithLateParts.*betas"):
        train(tmp_path, optimizer=AdamWithWarmup(), max_steps=2, ckpt_path=tmp_path / "ck" / "1.ckpt")


def test_a_state_of_fewer_settings_or_other_parameters_is_refused(tmp_path: Path) -> None:
    start = tmp_path / "ck" / "1.ckpt"
    train(tmp_path, saving(tmp_path / "ck"), optimizer=partial(torch.optim.Adam, lr=0.01), max_steps=1)
    with pytest.raises(UserError, match=r"Adamax.*amsgrad"):
        train(tmp_path, optimizer=partial(torch.optim.Adamax, lr=0.01), max_steps=2, ckpt_path=start)
    fewer = LinearDenoiser()
    next(fewer.parameters()).requires_grad_(False)
    frozen = Task(fewer, Slope(), optimizer=partial(torch.optim.Adam, lr=0.01))
    with pytest.raises(UserError, match="parameters"):
        train(tmp_path, module=frozen, max_steps=2, ckpt_path=start)


def test_a_class_of_torch_has_a_constant_rate_and_leaves_frozen_parts_alone(
    tmp_path: Path,
) -> None:
    denoiser = LinearDenoiser()
    frozen = next(denoiser.parameters()).requires_grad_(False)
    before = frozen.clone()
    task = Task(denoiser, Slope(), optimizer=partial(torch.optim.RMSprop, lr=0.02))
    events = Events()
    trainer = train(tmp_path, events, module=task, max_steps=3)
    assert isinstance(trainer.optimizers[0], torch.optim.RMSprop)
    assert set(rates(events).values()) == {0.02}
    assert torch.equal(frozen, before)


def test_a_schedule_that_watches_waits_for_something_to_watch(tmp_path: Path) -> None:
    def watching(optimizer: Any) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(optimizer, monitor="val/loss", patience=0, threshold=1e9, factor=0.1)

    given = TorchOptimizer(partial(torch.optim.SGD, lr=0.01), watching)
    events = Events()
    train(tmp_path, events, optimizer=given, max_steps=4)
    # Validated after every second step: the first value is the best so far, each further step no better.
    assert rates(events) == pytest.approx({1: 0.01, 2: 0.01, 3: 0.001, 4: 0.0001})
    blind = TorchOptimizer(partial(torch.optim.SGD, lr=0.01), torch.optim.lr_scheduler.ReduceLROnPlateau)
    with pytest.raises(UserError, match="monitor"):
        train(tmp_path, optimizer=blind, max_steps=1)
