"""The example that searches initial noise by gradients through sampling."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dfm_lightning.diffusion import CosineProcess, Quadratic, UniPC, sample_with_gradients
from dfm_lightning.types import Level

SCRIPT = Path(__file__).parents[2] / "examples" / "optimise_noise.py"


def test_the_score_rises_and_the_noise_keeps_its_norm() -> None:
    spec = importlib.util.spec_from_file_location("optimise_noise", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    process = CosineProcess()

    def denoise(noisy: Tensor, level: Level) -> Tensor:  # the exact one, of a normal distribution
        signal_rate, noise_rate = process.exact_rates(int(level[0]))
        return 0.25 * signal_rate * noisy / (0.25 * signal_rate**2 + noise_rate**2)

    def score(noise: Tensor) -> Tensor:
        sampler = UniPC(6, spacing=Quadratic())
        return -((sample_with_gradients(sampler, denoise, noise, process).noisy.mean() - 0.3) ** 2)

    noise = torch.randn(2, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    best, scores = script.optimise(score, noise, 20, 0.1)
    assert len(scores) == 21
    assert max(scores) > 0.1 * scores[0]  # both are negative
    assert score(best).item() == pytest.approx(max(scores), abs=1e-6)
    torch.testing.assert_close(best.flatten(1).norm(dim=1), noise.flatten(1).norm(dim=1))
