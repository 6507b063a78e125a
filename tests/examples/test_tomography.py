"""The example of tomography: its projections in closed form, its scenes, and that it trains and samples."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer, seed_everything
from torch.utils.data import DataLoader

FOLDER = Path(__file__).parents[2] / "examples" / "tomography"
sys.path.insert(0, str(FOLDER))

import tomography  # noqa: E402

from dfm_lightning.denoisers import UNetDenoiser  # noqa: E402
from dfm_lightning.diffusion import DDIM, ContextGuidance  # noqa: E402
from dfm_lightning.module import DiffusionWithForwardModel  # noqa: E402


def test_projections_of_a_blob_are_where_and_as_high_as_integrals_say() -> None:
    ticks = (torch.arange(tomography.SIDE) + 0.5) * 2 / tomography.SIDE - 1
    x, y, width = 0.3, -0.25, 0.15
    blob = torch.exp(-((ticks - x) ** 2 + (ticks[:, None] - y) ** 2) / (2 * width**2))[None, None]
    angles = torch.tensor([0.0, 0.4, math.pi / 2, 2.5])
    seen = tomography.rays(blob, angles[None, None])[0, 0, 0]
    for angle, found in zip(angles.tolist(), seen, strict=True):
        place = x * math.cos(angle) + y * math.sin(angle)
        height = 4 * width * math.sqrt(2 * math.pi) / 2
        expected = height * torch.exp(-((ticks - place) ** 2) / (2 * width**2))
        assert found == pytest.approx(expected, abs=0.03 * height)


def test_filtered_projections_weigh_frequencies_by_their_root() -> None:
    angles = math.pi * torch.arange(5)[None, None] / 5
    images = tomography.phantoms(2, "any")
    filtered = tomography.Projections()(images, angles.expand(2, -1, -1))
    # Rows of waves, which the filter multiplies; away from the ends, where it would need what lies beyond.
    places = torch.arange(tomography.SIDE)
    for periods in (4, 8, 12):
        wave = torch.cos(2 * math.pi * periods * places / tomography.SIDE)
        expected = 3 * (2 * periods / tomography.SIDE + 1 / tomography.SIDE) ** 0.5 * wave
        torch.testing.assert_close((wave @ tomography.half_ramp())[8:24], expected[8:24], atol=0.1, rtol=0)
    rows = tomography.rays(images, angles.expand(2, -1, -1))
    torch.testing.assert_close(filtered, torch.einsum("bvcan,mn->bvcam", rows, tomography.half_ramp()))


def test_the_adjoint_of_many_filtered_projections_is_nearly_an_inverse() -> None:
    angles = (math.pi * torch.arange(48) / 48).expand(4, 1, -1)
    images, errors = tomography.phantoms(4, "any"), []
    for project in (tomography.Projections(), tomography.rays):
        start = torch.zeros(4, 1, tomography.SIDE, tomography.SIDE, requires_grad=True)
        seen = project(images, angles)
        (back,) = torch.autograd.grad((project(start, angles) * seen).sum(), start)
        scaled = back * (back * images).sum() / back.square().sum()
        errors.append(float((scaled - images).norm() / images.norm()))
    assert errors[0] < 0.3  # of the pixels' size
    assert errors[0] < 0.6 * errors[1]


def test_scenes_hold_projections_of_their_own_image_and_no_image_but_as_truth() -> None:
    scenes = tomography.scenes(3, "any", novel=1)
    for scene in scenes:
        image = scene.truth["signal"][None]
        assert (image.min(), image.max()) >= (0, 0.3)
        for views, number in ((scene.context, 3), (scene.target, 24), (scene.novel, 24)):
            assert views.observation.shape == (1, 1, number, 32)
            expected = (tomography.rays(image, views.params[None]) @ tomography.half_ramp())[0]
            torch.testing.assert_close(views.observation, expected, atol=1e-5, rtol=0)
    assert len({scene.key for scene in scenes}) == 3
    assert not torch.equal(scenes[0].truth["signal"], scenes[1].truth["signal"])


def settings() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "tomography.yaml").read_text())["model"]["init_args"]


@pytest.mark.slow
def test_it_trains_on_projections_and_guided_samples_fit_the_given_ones_better() -> None:
    seed_everything(0, verbose=False)
    denoiser = UNetDenoiser(**settings()["denoiser"]["init_args"])
    model = DiffusionWithForwardModel(denoiser, tomography.Projections(), sampler=DDIM(4), samples=2, draw_batch=2)
    training = DataLoader(tomography.scenes(32, "train"), batch_size=16)
    data = DataLoader(tomography.scenes(2, "test", novel=1), batch_size=2)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", max_steps=4, enable_checkpointing=False, **quiet)
    trainer.fit(model, training)
    found = []
    for guidance in (None, ContextGuidance(3)):
        model.context_guidance = guidance
        (scores,) = trainer.test(model, data, verbose=False)
        assert {"test/signal_rmse_mean", "test/coverage", "test/energy_score"} <= set(scores)
        found.append(scores["test/consistency"])
    assert found[1] < 0.7 * found[0]
