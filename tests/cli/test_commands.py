"""`dfm data` and `dfm convert`: plain functions as commands."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch import Callback, LightningDataModule

from dfm_lightning.cli import main
from dfm_lightning.cli.commands import GROUPS
from dfm_lightning.cli.data import inspect as inspect_data
from dfm_lightning.cli.messages import with_subclasses
from dfm_lightning.cli.parser import DfmParser
from dfm_lightning.cli.parts import import_parts
from dfm_lightning.diffusion import NoiseProcess, Sampler
from dfm_lightning.errors import UserError
from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.optimizers import AdamWithWarmup

SMALL = "--train_scenes=1 --val_scenes=1 --test_scenes=1 --frames=4 --height=16 --width=16"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A very small data set in the layout of Co3D."""
    assert main(["data", "make-co3d", str(tmp_path / "co3d"), *SMALL.split()]) == 0
    return tmp_path / "co3d"


@pytest.mark.parametrize(
    "function", [function for group in GROUPS.values() for function in group.functions.values()]
)
def test_every_parameter_of_a_command_is_explained(function: Callable[..., None]) -> None:
    parser = DfmParser()
    parser.add_function_arguments(function)
    assert unexplained(parser) == []


def test_every_setting_is_typed_and_explained() -> None:
    import_parts()
    parts = (SignalDenoiser, ForwardModel, NoiseProcess, Sampler, AdamWithWarmup)
    bases = (DiffusionWithForwardModel, LightningDataModule, Callback, *parts)
    classes = {each for base in bases for each in with_subclasses(base)}
    own = [each for each in classes if each.__module__.split(".")[0] in ("dfm_lightning", "datamodules")]
    assert len(own) > 10
    for configurable in (each for each in own if not inspect.isabstract(each)):
        parser = DfmParser()
        parser.add_class_arguments(configurable)  # refuses an argument without a type
        assert unexplained(parser) == [], configurable


def unexplained(parser: DfmParser) -> list[str]:
    """Arguments that `--help` says nothing about."""
    return [action.dest for action in parser._actions if not action.help]


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    assert "make-co3d" in capsys.readouterr().out
    assert main(["--help"]) == 0
    assert "data" in capsys.readouterr().out


def test_a_data_set_is_inspected_and_verified(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", str(written)]) == 0
    assert "toy: 3 sequences, 12 frames" in capsys.readouterr().out
    assert main(["data", "verify", str(written)]) == 0
    assert "every file can be used" in capsys.readouterr().out


def test_a_broken_file_is_found(written: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture = sorted(written.rglob("images/*"))[0]
    picture.write_bytes(b"not a picture")
    capfd.readouterr()
    assert main(["data", "verify", str(written)]) == 2
    output = capfd.readouterr()
    assert picture.name in output.out
    assert "has 1 problem," in output.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inspect", "nowhere"], "No data set 'nowhere'"),
        (["inspect"], "root is required"),
        (["insp", "x"], "Did you mean 'inspect'?"),
        (["make-co3d", "x", "--train_scens", "1"], "Did you mean 'train_scenes'?"),
        (["make-co3d", "x", "--frames", "many"], "frames: expected int, got 'many'"),
    ],
)
def test_wrong_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_an_empty_folder_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="empty"):
        inspect_data(tmp_path)
