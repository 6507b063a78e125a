"""Small clips, written once."""

import shutil
from pathlib import Path

import pytest

from datamodules.synthetic.clips import write_synthetic_clips


@pytest.fixture(scope="session")
def clips_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Septuplets of 40×48 pixels, to be left as they are."""
    root = tmp_path_factory.mktemp("clips") / "root"
    write_synthetic_clips(root, train_clips=8, test_clips=3, height=40, width=48, travel=(0.1, 0.12), seed=1)
    return root


@pytest.fixture
def own_clips(clips_root: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(clips_root, tmp_path / "clips"))
