"""Safetensors files of weights and config, and the trained models that are found by their names."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_runs import Run, checkpoint, load

from dfm_lightning.checkpoints.shipped import export_weights, find_checkpoint, shipped_models
from dfm_lightning.checkpoints.stored_config import read_checkpoint
from dfm_lightning.cli import main
from dfm_lightning.errors import UserError
from dfm_lightning.migrations import migrate
from dfm_lightning.weights_file import name_of

WRITER: Any = "dfm_lightning.callbacks.TensorWriter"


@pytest.fixture
def trained(run: Run) -> Path:
    return checkpoint(run("fit"))


def predicted(folder: Path, weights: str) -> dict[str, np.ndarray]:
    output = folder / f"predicted-{Path(weights).name}"
    arguments = ["--ckpt_path", weights, "--trainer.callbacks+", WRITER, "--trainer.callbacks.output", str(output)]
    assert main(["predict", "--config", "toy.yaml", *arguments]) == 0
    return {
        f"{path.parent.name}/{path.name}/{name}": array
        for path in sorted(output.rglob("*.npz"))
        for name, array in np.load(path).items()
    }


def test_a_file_of_weights_predicts_as_its_checkpoint(trained: Path, folder: Path) -> None:
    assert main(["convert", "to-safetensors", str(trained), "small.safetensors"]) == 0
    expected = predicted(folder, str(trained))
    found = predicted(folder, "small.safetensors")
    assert expected
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_the_averaged_weights_are_kept_and_the_model_and_data_of_the_config(trained: Path, folder: Path) -> None:
    export_weights(trained, Path("small.safetensors"))
    content = load(trained)
    state = load_file("small.safetensors")  # by the library's own reader
    assert state.keys() == content["state_dict"].keys()
    assert all(torch.equal(state[name], value) for name, value in content["state_dict"].items())
    header = Path("small.safetensors").read_bytes()
    size = struct.unpack("<Q", header[:8])[0]
    config = json.loads(json.loads(header[8 : 8 + size])["__metadata__"]["dfm_config"])
    assert config["model"] == content["dfm_config"]["model"]
    assert "trainer" not in config


def test_half_halves_the_file_and_is_read_as_float32(trained: Path, folder: Path) -> None:
    export_weights(trained, Path("half.safetensors"), half=True)
    state = read_checkpoint(Path("half.safetensors"))["state_dict"]
    for name, value in load(trained)["state_dict"].items():
        assert state[name].dtype == value.dtype
        torch.testing.assert_close(state[name], value, rtol=2**-11, atol=1e-7)
    assert {value.dtype for value in load_file("half.safetensors").values() if value.is_floating_point()} == {
        torch.float16
    }


def stored(name: str, **tensors: torch.Tensor) -> Path:
    torch.save({"state_dict": tensors, "dfm_config": {"model": {}}}, name)
    return Path(name)


def test_the_mean_of_several_checkpoints(folder: Path) -> None:
    torch.manual_seed(0)
    weights, steps = torch.randn(3, 2, 5), torch.tensor([3])
    first, *others = (stored(f"{n}.ckpt", layer=one, steps=steps) for n, one in enumerate(weights))
    assert main(["convert", "to-safetensors", str(first), "mean.safetensors"] + [
        text for other in others for text in ("--averaged_with+", str(other))
    ]) == 0  # fmt: skip
    found = load_file("mean.safetensors")
    torch.testing.assert_close(found["layer"], torch.from_numpy(weights.numpy().mean(axis=0)))
    assert found["steps"].tolist() == [3]


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({"layer": torch.ones(2), "steps": torch.tensor([1])}, "layer"),
        ({"layer": torch.ones(3)}, "steps"),
        ({"layer": torch.ones(3), "steps": torch.tensor([1]), "more": torch.ones(1)}, "more"),
        ({"layer": torch.ones(3), "steps": torch.tensor([2])}, "steps"),
    ],
)
def test_checkpoints_of_different_models_have_no_mean(
    folder: Path, tensors: dict[str, torch.Tensor], named: str
) -> None:
    first = stored("first.ckpt", layer=torch.ones(3), steps=torch.tensor([1]))
    with pytest.raises(UserError, match=named):
        export_weights(first, Path("mean.safetensors"), averaged_with=[stored("other.ckpt", **tensors)])
    assert not Path("mean.safetensors").exists()


def test_the_same_weights_give_the_same_bytes(trained: Path, folder: Path) -> None:
    export_weights(trained, Path("one.safetensors"))
    export_weights(trained, Path("two.safetensors"))
    assert Path("one.safetensors").read_bytes() == Path("two.safetensors").read_bytes()


def test_training_begins_with_the_weights_of_such_a_file(trained: Path, run: Run, folder: Path) -> None:
    export_weights(trained, Path("small.safetensors"))
    start = load(
        checkpoint(run("fit", "--ckpt_path", "small.safetensors", "--model.optimizer.learning_rate", "0"))
    )
    for name, value in load(trained)["state_dict"].items():
        torch.testing.assert_close(start["state_dict"][name], value)


def test_a_name_finds_a_shipped_model_and_an_unknown_one_lists_them(
    trained: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = folder / "pretrained"
    shipped.mkdir()
    export_weights(trained, shipped / "toy_demo.safetensors")
    monkeypatch.setattr("dfm_lightning.checkpoints.shipped.PRETRAINED", shipped)
    assert find_checkpoint("toy_demo") == shipped / "toy_demo.safetensors"
    assert predicted(folder, "toy_demo")
    for name in ("ckpt_path", "initial_weights"):
        capsys.readouterr()
        assert main(["fit", "--config", "toy.yaml", f"--{name}", "toy_dem"]) == 2
        error = capsys.readouterr().err
        assert "toy_dem'" in error
        assert "toy_demo" in error


def test_a_shipped_models_file_has_its_name() -> None:
    for name, path in shipped_models().items():
        assert name_of(path) == name
        assert name_of(path.parent / "other.ckpt") == str(path.parent / "other.ckpt")
    assert name_of("runs/co3d_demo.safetensors") == "runs/co3d_demo.safetensors"


def test_a_path_is_taken_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_checkpoint("runs/last.ckpt") == Path("runs/last.ckpt")
    assert main(["test", "--config", "toy.yaml", "--ckpt_path", "runs/last.ckpt"]) == 2
    assert "runs/last.ckpt" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no such file at all", struct.pack("<Q", 2) + b"{}"])
def test_another_file_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    Path("other.safetensors").write_bytes(content)
    assert main(["test", "--config", "toy.yaml", "--ckpt_path", "other.safetensors"]) == 2
    assert "other.safetensors" in capsys.readouterr().err


def test_what_a_model_says_of_itself_is_kept(folder: Path) -> None:
    """Such as the fingerprint of a GAN inversion's generator, without which it is refused."""
    content = {
        "state_dict": {"weight": torch.ones(2)}, "dfm_config": {"model": {}}, "pytorch-lightning_version": "0",
        "generator_fingerprint": "1234",
    }  # fmt: skip
    torch.save(content, "some.ckpt")
    export_weights(Path("some.ckpt"), Path("some.safetensors"))
    found = read_checkpoint(Path("some.safetensors"))
    assert found["generator_fingerprint"] == "1234"
    assert found["dfm_config"] == {"model": {}}
    assert found["pytorch-lightning_version"] != "0"


def test_other_users_may_read_the_file(trained: Path, folder: Path) -> None:
    export_weights(trained, Path("small.safetensors"))
    (folder / "plain").touch()
    assert Path("small.safetensors").stat().st_mode == (folder / "plain").stat().st_mode


def test_what_float16_cannot_hold_is_refused(folder: Path) -> None:
    torch.save({"state_dict": {"large": torch.tensor([1e6])}, "dfm_config": {}}, "large.ckpt")
    with pytest.raises(UserError, match="large"):
        export_weights(Path("large.ckpt"), Path("large.safetensors"), half=True)
    assert not Path("large.safetensors").exists()
    export_weights(Path("large.ckpt"), Path("large.safetensors"))


@pytest.mark.parametrize("name", shipped_models())
def test_configs_of_shipped_models_are_of_this_version(name: str) -> None:
    """So that nobody is told of old settings by a model that came with the program."""
    assert migrate(read_checkpoint(shipped_models()[name])["dfm_config"], name).changes == []
