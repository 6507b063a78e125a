"""The example of phase retrieval: its diffraction by sums of waves, its two images, its scores."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from torch.utils.data import DataLoader, default_collate

FOLDER = Path(__file__).parents[2] / "examples" / "phase_retrieval"
sys.path.insert(0, str(FOLDER))

import phase_retrieval  # noqa: E402

from dfm_lightning.diffusion import DDIM  # noqa: E402
from dfm_lightning.types import Batch, Prediction  # noqa: E402


def test_observations_are_intensities_of_sums_of_waves() -> None:
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    sources = torch.tensor([[[0.0, 0.0, 0.0], [9.5, 16.25, 1.0]]])
    seen = phase_retrieval.Diffraction()(image, sources)
    assert seen.shape == (1, 2, 1, 32, 17)
    rows, columns = np.mgrid[:16, :16]
    for k, m in ((0, 0), (3, 5), (20, 16), (31, 1)):
        # (Between pixels a frequency above half the rate is a negative one.)
        signed = k - 32 if k >= 16 else k
        wave = (image[0, 0].numpy() * np.exp(-2j * math.pi * (k * rows + m * columns) / 32)).sum() / 8
        source = np.exp(-2j * math.pi * (signed * 9.5 + m * 16.25) / 32)
        exposures = [abs(wave + sign * source) ** 2 for sign in (1, -1)]
        assert seen[0, 0, 0, k, m] == pytest.approx(abs(wave), abs=1e-4)
        assert seen[0, 1, 0, k, m] == pytest.approx((exposures[0] - exposures[1]) / 4, abs=1e-4)


def test_a_hologram_shows_the_image_beside_its_twin() -> None:
    (scene,) = phase_retrieval.scenes(1, "any")
    for views in (scene.target, scene.novel):
        image = phase_retrieval.shown(views.observation[None], views.params[None])
        torch.testing.assert_close(image[0], scene.truth["signal"], atol=2e-3, rtol=0)
    noise = torch.randn(200, 1, 1, 32, 17, generator=torch.Generator().manual_seed(0))
    params = scene.target.params.expand(200, -1, -1)
    assert phase_retrieval.shown(noise, params).std() == pytest.approx(phase_retrieval.SHOWN, rel=0.02)


def test_without_a_source_an_image_looks_like_the_turned_one_and_with_one_it_does_not() -> None:
    for scene in phase_retrieval.scenes(3, "any"):
        image = scene.truth["signal"][None]
        assert (image.min(), image.max()) >= (0, 0.3)
        # The centre of mass is in the middle, so that the turned image is as likely (discs may overlap, and clip).
        ticks = torch.arange(16) - 7.5
        assert abs((image[0, 0].sum(dim=0) * ticks).sum() / image.sum()) < 1
        own, turned = (
            [
                phase_retrieval.Diffraction()(s, v.params[None])[0]
                for v in (scene.context, scene.target, scene.novel)
            ]
            for s in (image, image.flip(-1, -2))
        )
        for views, seen in zip((scene.context, scene.target, scene.novel), own, strict=True):
            torch.testing.assert_close(views.observation, seen, atol=1e-5, rtol=0)
        torch.testing.assert_close(own[0], turned[0], atol=1e-5, rtol=0)
        assert (own[1] - turned[1]).square().mean().sqrt() > 0.1


def test_images_to_test_with_differ_from_the_turned_ones() -> None:
    differences = []
    for apart in (0.15, 0.0):
        found = phase_retrieval.discs(40, "any", apart)
        assert found.shape == (40, 1, 16, 16)
        differences.append((found - found.flip(-1, -2)).square().mean(dim=(1, 2, 3)).sqrt())
    assert differences[0].min() >= 0.15 > differences[1].min()
    tested = next(iter(phase_retrieval.Discs(tested=4).test_dataloader())).truth["signal"]
    assert torch.equal(tested, phase_retrieval.discs(4, "test", 0.15))


def test_scores_count_both_images() -> None:
    model = phase_retrieval.PhaseRetrieval(phase_retrieval.HologramReader(8, 1), phase_retrieval.Diffraction())
    scene = Batch(*default_collate(phase_retrieval.scenes(1, "any")))
    true = scene.truth["signal"]
    signals = [true, true + 0.01, true.flip(-1, -2), (true + true.flip(-1, -2)) / 2]
    draws = [Prediction("any0", i, s, true, (), scene.context) for i, s in enumerate(signals)]
    found = model.score(draws, scene)
    apart = float((true - true.flip(-1, -2)).square().mean().sqrt())
    assert found == {
        "near_true": 0.5,
        "near_turned": 0.25,
        "both_images": 1.0,
        "error_of_nearer": pytest.approx((0.01 + apart / 2) / 4),
    }
    one_sided = model.score(draws[:2], scene)
    assert (one_sided["both_images"], one_sided["near_true"], one_sided["near_turned"]) == (0.0, 1.0, 0.0)


@pytest.mark.slow
def test_it_trains_on_holograms_and_samples() -> None:
    seed_everything(0, verbose=False)
    model = phase_retrieval.PhaseRetrieval(
        phase_retrieval.HologramReader(64, 1), phase_retrieval.Diffraction(), sampler=DDIM(2), draw_batch=2
    )
    (batch,) = DataLoader(phase_retrieval.scenes(64, "any"), batch_size=64)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=3e-3), []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(model.losses(batch)["target"].value)
        losses[-1].backward()
        optimizer.step()
    assert torch.stack(losses[-10:]).mean() < 0.5 * torch.stack(losses[:10]).mean()
    scene = phase_retrieval.scenes(1, "any")[0]
    drawn = model.draw(scene.context, scene.target.params, samples=2, seed=0)
    assert drawn[1].signal.shape == (1, 1, 16, 16)
    assert torch.isfinite(drawn[1].signal).all()
