"""A precision that this processor computes slowly is said so, once."""

from types import SimpleNamespace

import pytest
import torch

from dfm_lightning.cli import precision
from dfm_lightning.cli.precision import computes_bf16_slowly, warn_of_slow_precision


def trainer(chosen: str, device: str = "cpu", first: bool = True) -> SimpleNamespace:
    strategy = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(precision=chosen, strategy=strategy, is_global_zero=first)


@pytest.mark.parametrize(
    ("machine", "capability", "slow"),
    [
        ("x86_64", "AVX2", True),
        ("AMD64", "DEFAULT", True),
        ("x86_64", "AVX512", False),
        ("aarch64", "DEFAULT", False),
        ("arm64", "DEFAULT", False),
    ],
)
def test_which_processors_compute_bfloat16_slowly(machine: str, capability: str, slow: bool) -> None:
    assert computes_bf16_slowly(machine, capability) == slow


def test_only_bfloat16_on_such_a_processor_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(precision, "computes_bf16_slowly", lambda: True)
    for quiet in (trainer("32-true"), trainer("bf16-mixed", "cuda"), trainer("bf16-mixed", first=False)):
        warn_of_slow_precision(quiet)
    assert capsys.readouterr().out == ""
    warn_of_slow_precision(trainer("bf16-mixed"))
    assert "bf16-mixed" in capsys.readouterr().out
    monkeypatch.setattr(precision, "computes_bf16_slowly", lambda: False)
    warn_of_slow_precision(trainer("bf16-mixed"))
    assert capsys.readouterr().out == ""
