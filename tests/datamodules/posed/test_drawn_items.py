"""The data drawn for a seed stays what it is: documented numbers, and trainings that are resumed, depend on it."""

from pathlib import Path

import pytest
import torch
from drawn_items import CASES, STORED, drawn
from safetensors.torch import load_file


@pytest.mark.filterwarnings("ignore")
def test_every_batch_and_request_is_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    expected, found = load_file(STORED), drawn(tmp_path)
    assert {name.split(".")[0] for name in expected} == set(CASES)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        # Processors differ in the last digits of sums.
        torch.testing.assert_close(
            tensor, expected[name], rtol=1e-5, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}"
        )
