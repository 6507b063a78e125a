"""Converted models compute what the original code computes: see tests/data/README.md for the reference."""

import os
from pathlib import Path

import pytest
import torch
from original_parity import DATA, Comparison, read_reference

# Further files of the same layout can be named in the environment, separated by colons.
FILES = [DATA, *map(Path, filter(None, os.environ.get("DFM_ORIGINAL_FILES", "").split(":")))]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_everything_agrees_with_the_original_code(path: Path, dtype: torch.dtype) -> None:
    reference = read_reference(path)
    comparison = Comparison(reference, dtype)
    items = list(comparison.items())
    assert [item for item in items if not item.agrees] == []
    compared = {item.name for item in items}
    # What no part of a model of ours computes, and inputs.
    unused = {"coarse_fine1_sigma", "coarse_fine1_rgbfeats"}
    given = {"time_ids", "pos_enc_in", "sample_pdf_bins", "sample_pdf_weights"}
    expected = set(reference["outputs"]) | (set(reference["debug"]) - given - unused)
    assert expected <= compared
    assert {f"grad {key}" for key in reference["train"]["grads"]} <= compared


def test_what_never_trains_there_gets_no_gradient_here() -> None:
    """Their unused and detached parts; everything else of theirs has one."""
    reference = read_reference(DATA)
    comparison = Comparison(reference, torch.float32)
    list(comparison._training("cond"))
    assert comparison.trained_keys() == set(reference["train"]["grads"])
