"""Overlays for GPUs of several sizes, and the count of memory that they were chosen by."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import memory

# Scenes of a step: of eight GPUs in the paper, and as many as these configs have on eight.
SCENES = {"co3d": 24, "realestate10k": 24, "co3d_128": 8, "realestate10k_128": 16}


def test_every_size_has_an_overlay_for_every_config_that_fits() -> None:
    assert sorted(memory.overlays()) == sorted(
        f"{base}+hardware/gpu{size}/{base}"
        for size in (16, 24, 40, 80)
        for base in SCENES
        if size > 16 or not base.endswith("128")
    )


@pytest.mark.parametrize("names", memory.overlays())
def test_a_step_has_as_many_scenes_as_in_the_paper(names: str) -> None:
    base, plain, laid = names.split("+")[0], memory.settings_of(names.split("+")[0]), memory.settings_of(names)
    trainer = laid["trainer"]
    assert laid["data"]["init_args"]["batch_size"] * trainer["accumulate_grad_batches"] == SCENES[base]
    # Validation is due after a number of batches, not of steps.
    assert (
        trainer["val_check_interval"]
        == plain["trainer"]["val_check_interval"] * trainer["accumulate_grad_batches"]
    )
    assert laid["data"]["init_args"]["image_size"] == (128 if base.endswith("128") else 64)

    def changed(before: Any, after: Any, path: tuple[str, ...] = ()) -> set[str]:
        if isinstance(before, dict) and isinstance(after, dict):
            return set().union(*(changed(before.get(key), after[key], (*path, key)) for key in after))
        return set() if before == after else {path[-1]}

    # Nothing that decides what is learnt.
    allowed = {"batch_size", "accumulate_grad_batches", "val_check_interval", "precision"}
    allowed |= {"checkpointing", "memory_budget_mb", "foreach"}
    for callback in trainer["callbacks"]:
        callback.get("init_args", {}).pop("device", None)
    assert changed(plain, laid) <= allowed


@pytest.mark.parametrize("fake", [False, True])
def test_the_count_is_that_of_a_network_by_hand(fake: bool) -> None:
    """Two layers without biases: what is alive at each moment of forward and backward pass."""
    rows, width, item = 64, 32, 4
    mode = FakeTensorMode() if fake else torch.enable_grad()
    with mode, memory.LiveMemory() as live:
        first, second = (torch.rand(width, width).requires_grad_() for _ in range(2))
        weights = 2 * width**2 * item
        assert live.now == weights
        x = torch.rand(rows, width)
        hidden = (x @ first).relu()
        assert live.now == weights + 2 * rows * width * item
        assert live.peak == live.now + rows * width * item  # (before the activation)
        total = (hidden @ second).sum()
        del hidden
        before = live.now
        # The hidden layer is kept for the backward pass, the second product is not.
        assert before == weights + 2 * rows * width * item + item
        total.backward()
        del total, x
        assert live.now == 2 * weights  # (with the gradients)
        del first, second
    assert live.now == 0
