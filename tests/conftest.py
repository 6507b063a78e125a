"""Checks every array shape in the signatures of the project while the tests run."""

import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

# The faces that the small generator of the demo was fitted to.
sys.path.append(str(Path(__file__).parents[1] / "examples"))
install_import_hook(["dfm_lightning", "datamodules", "drawn_faces"], "beartype.beartype")


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's seed, and the state of torch's global generator."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    torch.manual_seed(3)
