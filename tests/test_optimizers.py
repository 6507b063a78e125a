"""The learning rate at every iteration, by hand; parts that train late, or rest."""

import io
import math
from functools import partial
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from dfm_lightning.errors import UserError
from dfm_lightning.optimizers import AdamWithWarmup, OptimizerChoice, TorchOptimizer, settings_of


def rates(settings: AdamWithWarmup, total: float, steps: int) -> list[float]:
    """The rates an optimizer has in its first iterations."""
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = settings.optimizer([weight])
    scheduler = settings.scheduler(optimizer, lambda: total)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_the_rate_rises_linearly_and_stays() -> None:
    seen = rates(AdamWithWarmup(0.4, warmup_steps=4), total=8, steps=7)
    assert seen == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4])


def test_it_falls_along_half_a_cosine_to_zero() -> None:
    seen = rates(AdamWithWarmup(0.4, warmup_steps=2, decay="cosine"), total=6, steps=8)
    half = math.sqrt(0.5)
    falling = [0.4 * (1 + cosine) / 2 for cosine in (1, half, 0, -half, -1)]
    assert seen == pytest.approx([0.2, 0.4, *falling, 0], abs=1e-12)


def test_without_warm_up_it_begins_in_full() -> None:
    assert rates(AdamWithWarmup(0.4, warmup_steps=0), total=9, steps=2) == [0.4, 0.4]


def test_a_training_without_end_does_not_decay() -> None:
    seen = rates(AdamWithWarmup(0.4, warmup_steps=1, decay="cosine"), total=math.inf, steps=4)
    assert seen == [0.4] * 4


def test_the_optimizer_is_adam_with_the_papers_defaults() -> None:
    optimizer = AdamWithWarmup().optimizer([torch.nn.Parameter(torch.zeros(()))])
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["lr"] == 2e-5
    assert AdamWithWarmup().warmup_steps == 1000


@pytest.mark.parametrize("foreach", [None, True, False])
def test_it_updates_all_parameters_together_or_one_by_one(foreach: bool | None) -> None:
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = AdamWithWarmup(0.1, warmup_steps=0, foreach=foreach).optimizer(weights)
    assert optimizer.param_groups[0]["foreach"] is foreach
    for weight in weights:
        weight.grad = torch.tensor([1.0, -2.0, 3.0])
    optimizer.step()
    for weight in weights:
        torch.testing.assert_close(weight.detach(), torch.tensor([0.9, 1.1, 0.9]))


# --- parts that begin late, or rest -----------------------------------------------------------------------------

SETTINGS = AdamWithWarmup(0.1, (0.9, 0.99), warmup_steps=4)
BEGINS, STEPS = 6, 16
# Of the late part: none before it begins, then of both signs, with a rest in between.
GRADIENTS = [0.0] * BEGINS + [1.0, -2.0, 0.5, 0.0, 0.0, 3.0, -1.0, 1.0, 0.5, -0.5]


class Run:
    """Two parameters under one optimizer; the second begins late. `absent`: a gradient of zero is not there."""

    def __init__(self, absent: bool) -> None:
        self.absent = absent
        self.early, self.late = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))
        self.optimizer: torch.optim.Optimizer = SETTINGS.optimizer([self.early, self.late])
        self.scheduler = SETTINGS.scheduler(self.optimizer, lambda: STEPS)

    def advance(self, steps: range) -> list[Tensor]:
        seen = []
        for step in steps:
            value = GRADIENTS[step]
            self.early.grad = torch.full((3,), math.cos(step))
            self.late.grad = None if self.absent and value == 0 else torch.full((2,), value)
            self.optimizer.step()
            self.scheduler.step()
            seen.append(self.late.detach().clone())
        return seen

    def saved(self) -> dict[str, Any]:
        file = io.BytesIO()
        parts = {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict()}
        torch.save({**parts, "weights": [self.early.detach(), self.late.detach()]}, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    def resume(self, saved: dict[str, Any]) -> None:
        with torch.no_grad():
            for parameter, value in zip((self.early, self.late), saved["weights"], strict=True):
                parameter.copy_(value)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scheduler.load_state_dict(saved["scheduler"])


def adam_by_hand(gradients: list[float], peak: float, warmup: int) -> list[float]:
    """Positions of a parameter under Adam (Kingma and Ba 2015, algorithm 1) with a linear rise of the rate."""
    position, first, second, seen = 0.0, 0.0, 0.0, []
    for count, gradient in enumerate(gradients, start=1):
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        ratio = first / (1 - 0.9**count) / (math.sqrt(second / (1 - 0.99**count)) + 1e-8)
        position -= peak * min(1, count / warmup) * ratio
        seen.append(position)
    return seen


@pytest.mark.parametrize("absent", [True, False])
def test_a_late_part_begins_as_if_training_had_begun_with_it(absent: bool) -> None:
    seen = Run(absent).advance(range(STEPS))
    assert all((position == 0).all() for position in seen[:BEGINS])
    expected = adam_by_hand(GRADIENTS[BEGINS:], 0.1, warmup=4)
    assert torch.stack(seen)[BEGINS:, 0].tolist() == pytest.approx(expected, rel=1e-5)


def test_the_parts_that_train_from_the_beginning_are_under_plain_adam() -> None:
    run, plain = Run(absent=False), nn.Parameter(torch.zeros(3))
    run.advance(range(STEPS))
    optimizer = torch.optim.Adam([plain], lr=0.1, betas=(0.9, 0.99))
    for step in range(STEPS):
        plain.grad = torch.full((3,), math.cos(step))
        optimizer.param_groups[0]["lr"] = 0.1 * min(1, (step + 1) / 4)
        optimizer.step()
    assert torch.equal(run.early, plain)


@pytest.mark.parametrize("cut", [3, BEGINS, BEGINS + 2, BEGINS + 4])
@pytest.mark.parametrize("absent", [True, False])
def test_resuming_is_not_noticed(absent: bool, cut: int) -> None:
    uninterrupted = Run(absent).advance(range(STEPS))
    first, second = Run(absent), Run(not absent)
    first.advance(range(cut))
    second.resume(first.saved())
    assert all(map(torch.equal, second.advance(range(cut, STEPS)), uninterrupted[cut:]))


@pytest.mark.parametrize("absent", [True, False])
def test_counts_of_idle_iterations_in_older_checkpoints_are_forgotten(absent: bool) -> None:
    """What plain Adam wrote while the second part was idle, on one process or on several."""
    old = Run(absent)
    old.optimizer = torch.optim.Adam([old.early, old.late], lr=0.1, betas=(0.9, 0.99))
    old.scheduler = SETTINGS.scheduler(old.optimizer, lambda: STEPS)
    old.advance(range(BEGINS))
    assert (1 in old.saved()["optimizer"]["state"]) is not absent
    resumed = Run(absent)
    resumed.resume(old.saved())
    expected = Run(absent).advance(range(STEPS))[BEGINS:]
    assert all(map(torch.equal, resumed.advance(range(BEGINS, STEPS)), expected))


def test_what_is_frozen_does_not_move() -> None:
    run = Run(absent=True)
    run.advance(range(BEGINS + 3))
    run.late.requires_grad_(False)
    before = run.late.detach().clone()
    run.advance(range(BEGINS + 3, BEGINS + 5))
    assert torch.equal(run.late, before)


def test_the_closure_gives_the_gradients() -> None:
    weight = nn.Parameter(torch.tensor(2.0))
    optimizer = AdamWithWarmup(0.1, warmup_steps=0).optimizer([weight])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = weight.square()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 4
    assert weight.item() == pytest.approx(1.9)
    assert len(optimizer.param_groups) == 1


# --- by class path ---------------------------------------------------------------------------------------------

SGD: dict[str, Any] = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.25, "momentum": 0.5}}
STEPS_DOWN: dict[str, Any] = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2}}


@pytest.mark.parametrize("direct", [True, False])
def test_a_config_names_any_optimizer_and_schedule(direct: bool) -> None:
    both = {"class_path": "dfm_lightning.optimizers.TorchOptimizer"}
    both["init_args"] = {"optimizer": SGD, "scheduler": STEPS_DOWN, "interval": "epoch", "frequency": 3}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--optimizer", type=OptimizerChoice)
    settings = settings_of(
        parser.instantiate(parser.parse_object({"optimizer": SGD if direct else both})).optimizer
    )
    optimizer = settings.optimizer([nn.Parameter(torch.zeros(()))])
    assert isinstance(optimizer, torch.optim.SGD)
    assert (optimizer.defaults["lr"], optimizer.defaults["momentum"]) == (0.25, 0.5)
    schedule = settings.schedule(optimizer, lambda: 9)
    if direct:
        assert schedule is None
        return
    assert isinstance(schedule["scheduler"], torch.optim.lr_scheduler.StepLR)
    assert (schedule["scheduler"].step_size, schedule["interval"], schedule["frequency"]) == (2, "epoch", 3)


def test_settings_that_an_optimizer_refuses_are_said() -> None:
    refused = TorchOptimizer(partial(torch.optim.SGD, lr=-1.0))
    with pytest.raises(UserError, match="learning rate"):
        refused.optimizer([nn.Parameter(torch.zeros(()))])
    with pytest.raises(ValueError, match="frequency"):
        TorchOptimizer(torch.optim.SGD, frequency=0)
