"""The model that comes with the program for drawn faces, on patches of faces that it was not trained on."""

from pathlib import Path

import pytest
import torch

import dfm_lightning
from datamodules.ffhq_gan import FFHQGANDataModule
from dfm_lightning.networks.stylegan2.sampling import GeneratorSamples
from dfm_lightning.tasks import GANInversion
from dfm_lightning.types import concatenate, map_tensors

pytestmark = pytest.mark.slow

FACES = 12


@torch.no_grad()
def test_samples_keep_the_patch_and_differ_elsewhere(tmp_path: Path) -> None:
    """Its training saw seeds from 1024 on; these are others."""
    model = dfm_lightning.load("ffhq_gan_demo")
    assert isinstance(model, GANInversion)
    generator = GeneratorSamples("drawn_faces", truncation=1.0)
    data = FFHQGANDataModule(
        generator,
        cache=str(tmp_path),
        resolution=32,
        patch_sides=(10, 16),
        test_seeds=(100, 100 + FACES),
        workers=0,
    )
    data.prepare_data()
    data.setup("test")
    errors: dict[str, list[float]] = {"patch": [], "hidden": [], "mean": []}
    spreads: dict[str, list[float]] = {"patch": [], "hidden": []}
    batches = [data.on_after_batch_transfer(item, 0) for item in data.test_dataloader()]
    batch = concatenate([part._replace(key=[]) for part in batches], dim=0)
    for row in range(FACES):
        context, target = (
            map_tensors(lambda t, r=row: t[r : r + 1], part) for part in (batch.context, batch.target)
        )
        drawn = torch.cat([draw.observation for draw in model.draw(context, target.params, samples=4, seed=0)])
        seen = context.params[0, 0, 0] > 0.5
        error = (drawn - target.observation[0]).square().mean(dim=(0, 1))
        mean = (model.forward_model(model.denoiser.mean[None, None], target.params) - target.observation)[0, 0]
        spread = drawn.std(dim=0).mean(dim=0)
        for name, where in (("patch", seen), ("hidden", ~seen)):
            errors[name].append(error[where].mean().item())
            spreads[name].append(spread[where].mean().item())
        errors["mean"].append(mean.square().mean(dim=0)[seen].mean().item())
    assert sum(errors["patch"]) < 0.35 * sum(errors["mean"])
    assert sum(errors["hidden"]) > 2 * sum(errors["patch"])
    assert sum(spreads["hidden"]) > 1.4 * sum(spreads["patch"])
