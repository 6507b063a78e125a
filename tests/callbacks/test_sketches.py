"""Sketches know data again that differ in their last digits, and no others."""

from typing import Any

import pytest
import torch

from dfm_lightning.callbacks.sketches import alike, sketch, sketches_by_key
from dfm_lightning.types import Views


def images(size: int = 48, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("size", [1, 48, 200])
def test_last_digits_do_not_count_and_one_pixels_least_change_does(size: int) -> None:
    given = images(size)
    noise = torch.randn(given.shape, generator=torch.Generator().manual_seed(1))
    assert alike(sketch(given), sketch(given * (1 + 1e-6 * noise)))
    changed = given.clone()
    changed[1, 2, size // 2, size // 3] += 1 / 127.5
    assert not alike(sketch(given), sketch(changed))


@pytest.mark.parametrize(
    "other",
    [
        images().flip(-1),
        images().roll(16, -1),
        images()[:1],
        images(seed=1),
        images().flatten(),
        torch.zeros(2, 3, 48, 48),
        Views(images(), torch.zeros(1)),
        {"a": images()},
    ],
)
def test_other_data_are_not_alike(other: Any) -> None:
    assert not alike(sketch(images()), sketch(other))


def test_whatever_a_batch_may_hold() -> None:
    for values in (
        torch.zeros(3), torch.tensor([True, False]), torch.tensor([2**40]), torch.zeros(0, 2), torch.tensor(3.0),
        torch.tensor([1j, 2.0]), torch.ones(3, dtype=torch.bfloat16), torch.tensor([torch.nan, 1.0]),
    ):  # fmt: skip
        assert alike(sketch(values), sketch(values.clone()))
    assert not alike(sketch(torch.zeros(3)), sketch(torch.tensor([0.0, 0.0, 1e-9])))
    assert not alike("0123456789abcdef", sketch(torch.zeros(3)))


def test_a_batch_is_sketched_scene_by_scene() -> None:
    both, one = (
        sketches_by_key(["a", "b"], Views(images(), torch.ones(2))),
        sketch(Views(images()[1], torch.tensor(1.0))),
    )
    assert both["b"] == one
    assert list(one) == ["observation", "params"]
