"""Names of scenes that look like numbers, dates or switches stay what was typed; numbers stay numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch import LightningDataModule

from datamodules.realestate10k import RealEstate10kDataModule
from dfm_lightning.cli.parser import DfmParser
from dfm_lightning.cli.texts import read_yaml
from dfm_lightning.errors import UserError

NAMES = [
    "3e68931874661724", "1e5", "007", "7", "0x1F", "1_000", "12:30:45", "1.50", "1.5", ".5", "-0", "null", "Null",
    "~", "true", "True", "yes", "off", ".inf", ".nan", "2020-01-01", "000eb6240f06dd5a", "12345678901234567890",
]  # fmt: skip


class Parts(LightningDataModule):
    def __init__(
        self,
        names: list[str] | None = None,
        either: str | list[str] = "toy",
        pair: tuple[float, float] = (0.0, 0.0),
        counts: list[int] | None = None,
        rates: list[float | None] | None = None,
        switches: list[bool] | None = None,
        anything: Any = None,
        root: str | None = None,
    ) -> None:
        super().__init__()


def parse(data: type[LightningDataModule], *arguments: str) -> dict[str, Any]:
    """The arguments of a data module, from the command line and configs."""
    parser = DfmParser()
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(LightningDataModule, "data")
    path = f"{data.__module__}.{data.__qualname__}"
    parsed = parser.parse_args(["--data", path, *arguments])
    again = parser.parse_string(parser.dump(parsed))
    assert again.data.init_args == parsed.data.init_args, "a config that was saved says the same"
    return parsed.data.init_args.as_dict()


def quoted(name: str) -> str:
    return json.dumps(name)


@pytest.mark.parametrize("spelling", [str, quoted, "'{}'".format])
@pytest.mark.parametrize("name", NAMES)
def test_scenes_keep_their_names(name: str, spelling: Any, tmp_path: Path) -> None:
    typed = spelling(name)
    assert parse(RealEstate10kDataModule, f"--data.prediction.scenes=[{typed}]")["prediction"]["scenes"] == [name]
    both = parse(RealEstate10kDataModule, f"--data.prediction.scenes=[abc, {typed}]")["prediction"]["scenes"]
    assert both == ["abc", name]
    for number, text in enumerate((f"[{typed}]", f"\n        - {typed}\n        - abc")):
        config = tmp_path / f"{number}.yaml"
        config.write_text(f"data:\n  init_args:\n    prediction:\n      scenes: {text}\n")
        found = parse(RealEstate10kDataModule, f"--config={config}")["prediction"]["scenes"]
        assert found == [name, "abc"][: number + 1]


# (Appended to an option that may be null, null is its end.)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("null", "Null", "~")])
def test_names_are_appended_as_they_are_typed(name: str) -> None:
    found = parse(
        RealEstate10kDataModule, f"--data.prediction.scenes+={name}", f"--data.prediction.scenes+={name}"
    )
    assert found["prediction"]["scenes"] == [name, name]


def test_other_types_are_what_they_were(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "data:\n  init_args:\n    pair: [1e-3, .5]\n    counts: [0x10, 1_000, 7]\n    rates: [null, 1e5, ~, 2]\n"
        "    switches: [yes, true, off]\n    root: null\n    either: [007, abc]\n    names:\n"
        "    anything: {a: [1, 0.5, true, null, x]}\n"
    )
    assert parse(Parts, f"--config={config}") == {
        "names": None, "either": ["007", "abc"], "pair": (0.001, 0.5), "counts": [16, 1000, 7],
        "rates": [None, 100000.0, None, 2.0], "switches": [True, True, False],
        "anything": {"a": [1, 0.5, True, None, "x"]}, "root": None,
    }  # fmt: skip
    assert parse(Parts, "--data.pair=[1e-3,2]", "--data.either=007", "--data.root=null")["pair"] == (0.001, 2.0)


@pytest.mark.parametrize("value", ["{a: 1}", "[[abc]]", "[{a: b}]"])
def test_what_is_no_list_of_names_is_refused(value: str) -> None:
    with pytest.raises(UserError, match="names"):
        parse(Parts, f"--data.names={value}")


def test_what_is_around_such_names_stays() -> None:
    text = "a: &x [1, 0.5, abc]\nb: *x\nc: {d: 1e-3, e: ~}\nf: |\n  [1e5]\n"
    assert read_yaml(text) == {
        "a": [1, 0.5, "abc"], "b": [1, 0.5, "abc"], "c": {"d": 0.001, "e": None}, "f": "[1e5]\n"
    }  # fmt: skip
    assert read_yaml("a: &x [1e5, abc]\nb: *x\nc: 1e5") == {"a": ["1e5", "abc"], "b": ["1e5", "abc"], "c": 1e5}
    with pytest.raises(yaml.YAMLError):
        read_yaml("[1, ")
