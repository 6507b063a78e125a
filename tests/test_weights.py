"""Weights that can be used."""

import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from dfm_lightning.checkpoints.stored_config import read_checkpoint
from dfm_lightning.errors import UserError
from dfm_lightning.weights import check_finite, check_usable, is_finite


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


def test_buffers_may_be_infinite_and_no_more() -> None:
    model = torch.nn.BatchNorm1d(2)
    assert model.running_var is not None
    model.running_var[0] = math.inf
    check_usable(model, "file.ckpt")
    model.running_var[1] = math.nan
    with pytest.raises(UserError, match="running_var"):
        check_usable(model, "file.ckpt")


@pytest.mark.parametrize(
    "content",
    [{"state_dict": 3}, {"state_dict": None}, {"state_dict": {}, "dfm_config": "text"},
     {"state_dict": {}, "dfm_config": [1]}, {"weights": {}}, [1, 2], torch.zeros(2)],
    ids=str,
)  # fmt: skip
def test_files_of_torch_that_are_no_checkpoints(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "some.ckpt")
    with pytest.raises(UserError, match=r"some\.ckpt"):
        read_checkpoint(tmp_path / "some.ckpt")


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(9)}}, path)
    whole = path.read_bytes()
    pickles = [pickle.dumps(value, protocol) for value in ("text", {1: 2}, {3}) for protocol in range(6)]
    for damaged in (b"", b"text", whole[: len(whole) // 2], whole[:-1], b"\x80", b"\x80\x02.", b"(\n", *pickles):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"some\.ckpt"):
            read_checkpoint(path)
    with pytest.raises(UserError, match="folder"):
        read_checkpoint(tmp_path)
