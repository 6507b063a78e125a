"""What an installation consists of."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import dfm_lightning
from dfm_lightning.cli.configs import shipped_configs, shipped_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_has_the_code_and_the_configs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = [path for package in ("dfm_lightning", "datamodules") for path in (ROOT / package).rglob("*.py")]
    assert names >= {path.relative_to(ROOT).as_posix() for path in sources}
    assert names >= {f"dfm_lightning/configs/{name}.yaml" for name in shipped_configs()}
    templates = [path for path in (ROOT / "dfm_lightning").rglob("templates/*") if path.is_file()]
    assert len(templates) >= 7
    assert names >= {path.relative_to(ROOT).as_posix() for path in templates}
    assert "dfm_lightning/networks/stylegan2/shipped/drawn_faces.safetensors" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_an_installed_program_finds_its_configs(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    checkout = set(shipped_configs())
    monkeypatch.setattr(dfm_lightning, "__file__", str(tmp_path / "dfm_lightning" / "__init__.py"))
    assert shipped_folder() == tmp_path / "dfm_lightning" / "configs"
    assert set(shipped_configs()) == checkout
