"""Arguments of classes are recorded however they are kept, whoever wrote the class."""

import copy
import dataclasses
import functools
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
from ball_scenes import BallDenoiser, renderer
from small_objects import flat_record
from torch import nn

from dfm_lightning.diffusion import (
    DDIM,
    Spacing,
)
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.record import CLASS, Recorded, describe, differences


class Blur(nn.Module):
    """A part of a foreign class, which keeps its argument as a table that no checkpoint holds."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.exp(-torch.arange(3) / sigma), persistent=False)
        self.linear = nn.Linear(1, 1)


class Curve:
    """A part that is no network, and keeps its argument in a private place."""

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma


class Table:
    """A part that keeps what it makes of its argument."""

    def __init__(self, size: int) -> None:
        self.values = list(range(size))


class Forgetful(ForwardModel):
    """Stores no argument under its name."""

    def __init__(self, gain: float, *, blur: Any = None, curve: Any = None, **more: Any) -> None:
        super().__init__()
        self.table = torch.full((2,), gain)
        self.filter = blur
        self.function = curve
        self.mode = "always the same"
        self.activation = lambda x: x

    def forward(self, signal: Any, params: Any) -> Any:
        raise NotImplementedError


class Moded(Forgetful):
    """Has an attribute of another kind with its argument's name, and a method."""

    def __init__(self, mode: int, guide: str, *others: Any) -> None:
        super().__init__(*others)
        self._both = (mode, guide)

    def guide(self) -> None:
        """Not the argument."""


class Positional(DiffusionWithForwardModel):
    without_effect = frozenset({"decay_weight"})

    def __init__(self, *others: Any, decay_weight: float = 0.1, scale: float = 1.0, **more: Any) -> None:
        super().__init__(*others, **more)


@dataclasses.dataclass
class Given(Spacing):
    """Has a constructor that nobody has written."""

    first: int = 20
    last: int = 2

    def levels(self, *_: Any) -> Any:
        raise NotImplementedError


CHANGES = {
    "gain": (Forgetful(1.0), Forgetful(2.0)),
    "blur": (Forgetful(1.0, blur=Blur(1.0)), Forgetful(1.0, blur=Blur(2.0))),
    "curve": (Forgetful(1.0, curve=Curve(1.0)), Forgetful(1.0, curve=Curve(2.0))),
    "curve.values": (Forgetful(1.0, curve=Table(2)), Forgetful(1.0, curve=Table(3))),
    "curve.args": (
        Forgetful(1.0, curve=functools.partial(max, 1)),
        Forgetful(1.0, curve=functools.partial(max, 2)),
    ),
    "curves": (Forgetful(1.0, curves=[Curve(1.0), Curve(1.0)]), Forgetful(1.0, curves=[Curve(1.0), Curve(2.0)])),
    "tensor": (Forgetful(1.0, tensor=torch.ones(2)), Forgetful(1.0, tensor=torch.zeros(2))),
    "activation": (Forgetful(1.0, activation="relu"), Forgetful(1.0, activation="gelu")),
    "mode": (Moded(1, "a", 1.0), Moded(2, "a", 1.0)),
    "guide": (Moded(1, "a", 1.0), Moded(1, "b", 1.0)),
    "base's gain": (Moded(1, "a", 1.0), Moded(1, "a", 2.0)),
    "last": (Given(), Given(last=1)),
    "limit": (Forgetful(1.0, limit=float("inf")), Forgetful(1.0)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_arguments_of_own_classes_are_recorded_however_they_are_kept(name: str) -> None:
    before, after = map(flat_record, CHANGES[name])
    assert before != after
    named = name.split("'s ")[-1].split(".")[0]
    changes = differences(before, after)
    assert [change for change in changes if f".{named}" in change.split(":")[0]] == changes


def test_records_do_not_depend_on_how_arguments_are_passed_or_where_an_object_has_been() -> None:
    torch.manual_seed(0)
    by_position = Positional(BallDenoiser(), renderer(), scale=2.0, guidance_scale=3.0)
    by_name = Positional(
        denoiser=BallDenoiser(), forward_model=renderer(), guidance_scale=3.0, scale=2.0, decay_weight=9.0
    )
    settings = by_position.settings()
    assert settings == by_name.settings() == copy.deepcopy(by_position).settings()
    assert settings["scale"] == 2.0
    assert settings["forward_model.near"] == 1.0
    assert settings["sampler.steps"] == 50
    assert "decay_weight" not in settings
    assert "others" not in settings


def test_what_is_changed_later_counts() -> None:
    sampler = DDIM(50)
    sampler.steps = 20
    assert sampler.record() == DDIM(20).record()
    model = Positional(BallDenoiser(), renderer())
    model.sampler = DDIM(7)
    assert model.settings()["sampler.steps"] == 7


def test_the_content_of_a_file_counts_and_not_its_name(tmp_path: Path) -> None:
    for name, text in (("a.csv", "1"), ("b.csv", "1"), ("c.csv", "2")):
        (tmp_path / name).write_text(text)
    a, b, c = (Forgetful(1.0, table=str(tmp_path / name)).record() for name in ("a.csv", "b.csv", "c.csv"))
    assert a == b != c


class Tabled(Recorded):
    """Has an argument that may be left out."""

    def __init__(self, table: str | None = None) -> None:
        self.table = table


def test_nothing_is_a_value_too() -> None:
    assert Tabled().record() == {CLASS: "test_record.Tabled", "table": None}


def test_members_of_two_enumerations_are_not_the_same() -> None:
    first, second = Enum("First", ["A", "B"]), Enum("Second", ["A", "B"])
    described = [describe(member) for member in (*first, *second)]
    assert len(set(described)) == 4


def test_objects_are_described_the_same_whenever_they_are_made() -> None:
    def part() -> Any:
        return {
            "curve": Curve(1.0),
            "set": {"b", "a"},
            "type": torch.float32,
            "function": torch.relu,
            "nan": float("nan"),
        }

    assert describe(part()) == describe(part())
    assert describe(part())["curve"] == {CLASS: "test_record.Curve", "gamma": 1.0}
    assert describe(DDIM())[CLASS] == "DDIM"


def test_a_wrong_call_fails_as_ever() -> None:
    with pytest.raises(TypeError, match="gain"):
        Forgetful()  # type: ignore[call-arg]  # on purpose
