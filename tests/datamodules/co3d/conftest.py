"""A small synthetic root, written once, and copies of it that a test may damage."""

import shutil
from pathlib import Path

import pytest
from small_co3d import write_small_root


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("co3d") / "root"
    write_small_root(root)
    return root


@pytest.fixture
def own_root(synthetic_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_root, tmp_path / "root"))
