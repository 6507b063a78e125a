"""The learning rate at every iteration, by hand."""

import math

import pytest
import torch

from dfm_lightning.optimizers import AdamWithWarmup


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
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults["lr"] == 2e-5
    assert AdamWithWarmup().warmup_steps == 1000
