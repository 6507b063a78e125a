"""Checks every array shape in the signatures of the project while the tests run."""

import os
import sys
from pathlib import Path

import pytest
import torch
from shape_checks import check_shapes_of

# The faces that the small generator of the demo was fitted to.
sys.path.append(str(Path(__file__).parents[1] / "examples"))
# Compiled modules are kept whatever the surroundings say: each process imports hundreds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
check_shapes_of("dfm_lightning", "datamodules", "drawn_faces")
pytest_plugins = ["quick_tests"]


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's seed, and the state of torch's global generator."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    torch.manual_seed(3)
