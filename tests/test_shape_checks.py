"""The import hook of these tests: it finds wrong shapes, wherever a signature states some."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from jaxtyping import TypeCheckError
from shape_checks import check_shapes_of

from dfm_lightning.geometry.cameras import invert_pose

SOURCE = '''
"""A module."""
from __future__ import annotations
from typing import NamedTuple
from jaxtyping import Float
from torch import Tensor

Row = Float[Tensor, "n"]

def product(a: Float[Tensor, "m n"], b: Float[Tensor, "n k"]) -> Float[Tensor, "m k"]:
    return a @ b

def wrong(a: Float[Tensor, "m n"]) -> Float[Tensor, "n m"]:
    return a

def listed(rows: list[Row | None], scale: float) -> None:
    pass

def plain(number: int) -> int:
    return number

class Thing:
    @property
    def row(self) -> Row:
        return Tensor([[1.0]])

    @classmethod
    def made(cls, row: Row) -> Thing:
        return cls()
'''


@pytest.fixture(params=["as it stands", "without future annotations"])
def module(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    source = SOURCE
    if request.param != "as it stands":
        source = source.replace("from __future__ import annotations\n", "").replace("-> Thing", "-> object")
    (tmp_path / "things_with_shapes.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    check_shapes_of("things_with_shapes")
    yield importlib.import_module("things_with_shapes")
    del sys.modules["things_with_shapes"]


def test_wrong_shapes_are_found(module: ModuleType) -> None:
    one, two = torch.zeros(2, 3), torch.zeros(3, 4)
    assert module.product(one, two).shape == (2, 4)
    assert module.Thing.made(one[0])
    module.listed([one[0], None], 1.0)
    for mistake in (
        lambda: module.product(one, one),
        lambda: module.wrong(one),
        lambda: module.listed([one], 1.0),
        lambda: module.Thing().row,
        lambda: module.Thing.made(one),
    ):
        with pytest.raises(TypeCheckError):
            mistake()


def test_functions_without_shapes_are_left_alone(module: ModuleType) -> None:
    if "annotations" in vars(module):
        return  # its hints are strings
    assert not hasattr(module.plain, "__wrapped__")
    assert module.plain("a word") == "a word"
    assert hasattr(module.product, "__wrapped__")


def test_the_project_is_checked() -> None:
    with pytest.raises(TypeCheckError):
        invert_pose(torch.eye(3))
