"""The model that comes with the program for views from two images, on objects that it was not trained on."""

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import dfm_lightning
from datamodules.co3d import Co3DDataModule
from datamodules.co3d.object_crops import ObjectCrop
from datamodules.posed.sparse_views import SparseViews
from datamodules.synthetic.co3d.writer import write_synthetic_co3d
from dfm_lightning.diffusion import add_noise
from dfm_lightning.metrics import psnr
from dfm_lightning.tasks import LatentViews
from dfm_lightning.types import Batch, Views, concatenate

pytestmark = pytest.mark.slow
SCENES = 6


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """A batch of scenes of another seed than the training's: two context views, one target."""
    root = tmp_path_factory.mktemp("objects")
    write_synthetic_co3d(
        root, train_scenes=1, val_scenes=1, test_scenes=SCENES, frames=6, height=64, width=64, seed=5
    )
    data = Co3DDataModule(
        str(root), "toy", views=SparseViews(2, 2, 6), image_size=32, target_scale=4.0,
        object_crop=ObjectCrop(), workers=0,
    )  # fmt: skip
    data.prepare_data()
    data.setup("test")
    return concatenate([batch._replace(key=[]) for batch in data.test_dataloader()], dim=0)._replace(
        key=[str(number) for number in range(SCENES)]
    )


@pytest.fixture(scope="module")
def model() -> LatentViews:
    loaded = dfm_lightning.load("sparsefusion_demo")
    assert isinstance(loaded, LatentViews)
    return loaded


@torch.no_grad()
def test_latents_hold_the_image(model: LatentViews, scenes: Batch) -> None:
    images = scenes.target.observation[:, 0]
    assert psnr(model.codec.decode(model.codec.encode(images)), images).mean() > 25


def features_of(model: LatentViews, context: Views, scenes: Batch) -> Float[Tensor, "b c h w"]:
    """The features of the targets' cameras, by some context views."""
    return model.as_grid(model.view_features(model.transformer.encode(context), scenes.target.params, 0, 32))


def of_another_scene(context: Views) -> Views:
    return context._replace(observation=context.observation.roll(1, dims=0))


@torch.no_grad()
def test_the_transformer_shows_what_the_context_shows(model: LatentViews, scenes: Batch) -> None:
    true, found = scenes.target.observation[:, 0], []
    for context in (scenes.context, of_another_scene(scenes.context)):
        view = model.render_estimate(model.transformer.encode(context), scenes.target.params)
        found.append(psnr(view.image[:, 0], true).mean())
    assert found[0] > found[1] + 2


@torch.no_grad()
def test_noise_is_found_by_what_the_context_shows(model: LatentViews, scenes: Batch) -> None:
    latents = model.encode(scenes.target.observation[:, 0])
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    time = torch.full((SCENES,), 0.9)
    noisy = add_noise(model.process, latents, noise, time)
    errors = [
        (model.predict_noise(noisy, features_of(model, context, scenes), time) - noise).square().mean()
        for context in (scenes.context, of_another_scene(scenes.context))
    ]
    assert errors[0] < 0.9 * errors[1]
