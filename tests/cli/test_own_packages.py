"""Folders of the user's that are called like the project's packages change nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import datamodules
import dfm_lightning
from dfm_lightning.cli import main
from dfm_lightning.cli.own_packages import import_own_packages

OURS = Path(dfm_lightning.__file__).parents[1]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the folders of someone who copied the layout of a project."""
    for name in ("datamodules", "configs", "torch", "yaml", "lightning"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong package')")
        (tmp_path / name / "mine.py").write_text("")
    (tmp_path / "random.py").write_text("raise RuntimeError('the wrong module')")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("first", [True, False])
def test_the_packages_beside_this_one_are_taken(
    first: bool, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the working directory stands in the search path."""
    path = [entry for entry in sys.path if Path(entry or ".").resolve() != OURS]
    monkeypatch.setattr(sys, "path", [str(elsewhere), *path] if first else [*path, str(elsewhere)])
    monkeypatch.setattr(sys, "modules", {name: m for name, m in sys.modules.items() if "datamodules" not in name})
    before = list(sys.path)
    import_own_packages()
    assert Path(sys.modules["datamodules"].__file__ or "").parent == Path(datamodules.__file__).parent
    assert sys.path == before


def test_the_working_directory_is_searched_last(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = [entry for entry in sys.path if entry]
    monkeypatch.setattr(sys, "path", path)
    assert main(["--version"]) == 0
    assert sys.path[-1] == str(elsewhere)
    assert sys.path[:-1] == path[: len(sys.path) - 1]


@pytest.mark.slow
@pytest.mark.parametrize("started_by", ["script", "module"])
def test_the_command_runs_there(started_by: str, elsewhere: Path) -> None:
    """As the console script does it, and by `python -m`, which searches the working directory first."""
    if started_by == "module":
        for name in ("torch", "yaml", "lightning"):  # Python itself takes these
            (elsewhere / name).rename(elsewhere / f"{name}_")
        (elsewhere / "random.py").unlink()
    script = "import sys; sys.path.remove(''); import dfm_lightning.cli as c; sys.exit(c.main(['data', '--help']))"
    command = ["-c", script] if started_by == "script" else ["-m", "dfm_lightning", "data", "--help"]
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(OURS)},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "make-rooms" in ended.stdout
