"""The tutorial's problem: its code is the example's, it is short, and its commands work from anywhere."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[2]
MY_PROBLEM = ROOT / "examples" / "my_problem"
TONES = ROOT / "examples" / "tones"
TUTORIAL = (ROOT / "docs" / "adding_a_problem.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The tutorial's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TUTORIAL, flags=re.DOTALL | re.MULTILINE)


def own_lines(source: str) -> int:
    """Lines of a Python file besides imports, docstrings, comments and empty ones."""
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        value = node.value if isinstance(node, ast.Expr) else None
        docstring = isinstance(value, ast.Constant) and isinstance(value.value, str)
        if isinstance(node, ast.stmt) and (docstring or isinstance(node, (ast.Import, ast.ImportFrom))):
            left_out |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and n not in left_out for n, line in lines)


def run(folder: Path, *arguments: str) -> str:
    """Run a command in a folder; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "dfm_lightning", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_lines_are_counted_as_people_count_them() -> None:
    imports = "import a\nfrom b import (\n    c,\n)\n\n# why\n"
    assert own_lines(f'"""Doc\nstring."""\n\n{imports}def f():\n    """Doc."""\n    return 1\n') == 2


def test_the_tutorial_shows_the_files_of_the_example() -> None:
    shown = "\n\n".join(blocks("python")[:2])
    assert shown == (MY_PROBLEM / "my_problem.py").read_text(encoding="utf-8")
    assert blocks("yaml")[0] == (MY_PROBLEM / "my_problem.yaml").read_text(encoding="utf-8")


def test_the_other_code_it_shows_is_that_of_the_tones() -> None:
    source = (TONES / "tones.py").read_text(encoding="utf-8")
    classes = [block for block in blocks("python")[2:] if block.startswith("class ")]
    assert len(classes) == 3
    for block in classes:
        assert block in source


def test_the_users_part_is_under_forty_lines() -> None:
    python = (MY_PROBLEM / "my_problem.py").read_text(encoding="utf-8")
    config = (MY_PROBLEM / "my_problem.yaml").read_text(encoding="utf-8")
    assert own_lines(python) + len(config.splitlines()) < 40


@pytest.mark.slow
def test_its_commands_work_in_a_folder_of_the_users(tmp_path: Path) -> None:
    for name in ("my_problem.py", "my_problem.yaml"):
        shutil.copy(MY_PROBLEM / name, tmp_path)
    fit, predict = blocks("sh")[0].splitlines()
    assert fit == "dfm fit -c my_problem.yaml"
    steps = ("--trainer.max_steps", "20", "--trainer.accelerator", "cpu")
    path = run(tmp_path, *fit.split()[1:], *steps).splitlines()[-1].removeprefix("checkpoint: ")
    # The command as it stands, but for the numbers in the checkpoint's name.
    shown = predict.split()
    assert re.sub(r"\d+", "N", path) == re.sub(r"\d+", "N", shown[-1])
    assert "predictions: predictions/index.html" in run(tmp_path, *shown[1:-1], path)

    for scene in range(4):
        for number in range(4):
            folder = tmp_path / "predictions" / f"test{scene}" / f"sample_{number:02}"
            arrays = np.load(folder / "sample.npz")
            assert arrays["signal"].shape == (1, 3)
            assert arrays["observation"].shape == (2, 1, 16, 16)
            assert np.isfinite(arrays["observation"]).all()
            assert json.loads((folder / "sample.json").read_text())["key"] == f"test{scene}"
            assert {path.name for path in folder.glob("*.png")} == {
                "context_00.png",
                "observation_00.png",
                "observation_01.png",
                "overview.png",
            }
            assert arrays["context"].shape == (1, 1, 16, 16)
            assert arrays["context_params"].shape == (1, 16, 16)
            assert arrays["params"].shape == (2, 16, 16)


@pytest.mark.slow
def test_the_tones_train_test_and_predict(tmp_path: Path) -> None:
    for name in ("tones.py", "tones.yaml"):
        shutil.copy(TONES / name, tmp_path)
    config = yaml.safe_load((tmp_path / "tones.yaml").read_text())
    assert config["model"]["class_path"] == "tones.Tones"
    steps = ("--trainer.max_steps", "20", "--data.count", "256", "--trainer.accelerator", "cpu")
    path = run(tmp_path, "fit", "-c", "tones.yaml", *steps).splitlines()[-1].removeprefix("checkpoint: ")
    assert "test/pitch_error" in run(
        tmp_path, "test", "-c", "tones.yaml", "--ckpt_path", path, "--model.samples", "1"
    )
    run(tmp_path, "predict", "-c", "tones.yaml", "--ckpt_path", path, "--model.samples", "1")
    arrays = np.load(tmp_path / "predictions" / "test3" / "sample_00" / "sample.npz")
    assert {name: array.shape for name, array in arrays.items()} == {
        "signal.pitch": (1,),
        "signal.decay": (1,),
        "signal.loudness": (1,),
        "observation": (4, 1, 1, 32),
        "context": (1, 1, 1, 32),
        "context_params.start": (1,),
        "context_params.gain": (1,),
        "params.start": (4,),
        "params.gain": (4,),
        "truth.pitch": (),
    }
    # The arrays are what the forward model makes of the stored signal.
    pitch, decay, loudness = (arrays[f"signal.{name}"] for name in ("pitch", "decay", "loudness"))
    assert (pitch > 1).all()
    assert (decay > 0).all()
    assert np.abs(arrays["observation"]).max() <= 1.5 * loudness.max()
