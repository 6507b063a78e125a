"""Weights that can be used."""

import math

import pytest
import torch

from dfm_lightning.errors import UserError
from dfm_lightning.weights import check_finite, is_finite


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_not_finite_is_enough(value: float, dtype: torch.dtype) -> None:
    weights = torch.ones(3, 4, dtype=dtype)
    assert is_finite(weights)
    weights[1, 2] = value
    assert not is_finite(weights)


@pytest.mark.parametrize("values", [torch.tensor([1, 2]), torch.tensor([True]), torch.zeros(0)])
def test_whole_numbers_and_nothing_are_finite(values: torch.Tensor) -> None:
    assert is_finite(values)


def test_the_first_bad_weight_is_named() -> None:
    good, bad = torch.ones(2), torch.tensor([1.0, math.nan])
    check_finite([("a", good), ("count", torch.tensor(3))], "file.ckpt")
    with pytest.raises(UserError, match=r"b\.weight"):
        check_finite([("a", good), ("b.weight", bad), ("c", bad)], "file.ckpt")
