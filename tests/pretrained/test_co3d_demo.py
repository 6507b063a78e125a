"""The model that comes with the program for the demo's objects, on scenes that it was not trained on."""

from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

import dfm_lightning
from datamodules.co3d import Co3DDataModule
from datamodules.posed.back_from_target import BackFromTarget
from datamodules.posed.settings import EvaluationViews
from datamodules.synthetic.co3d.writer import write_synthetic_co3d
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Batch, concatenate

pytestmark = pytest.mark.slow

# Below and above, where next to nothing or nearly everything is noise, it is not (docs/notes/demo.md).
LEVELS = (62, 125, 250, 500, 750, 875)
SCENES = 6


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """A batch of scenes of another seed than the training's."""
    root = tmp_path_factory.mktemp("objects")
    write_synthetic_co3d(
        root, train_scenes=1, val_scenes=1, test_scenes=SCENES, frames=8, height=64, width=64, seed=5
    )
    views, novel = BackFromTarget(3, distance=(1, 8)), EvaluationViews(novel=3)
    data = Co3DDataModule(
        str(root), "toy", views=views, image_size=32, target_scale=4.0, evaluation=novel, workers=0
    )
    data.prepare_data()
    data.setup("test")
    return concatenate([batch._replace(key=[]) for batch in data.test_dataloader()], dim=0)._replace(
        key=[str(number) for number in range(SCENES)]
    )


@pytest.fixture(scope="module")
def model() -> InverseGraphics:
    loaded = dfm_lightning.load("co3d_demo")
    assert isinstance(loaded, InverseGraphics)
    return loaded.eval()


def blurred(images: Float[Tensor, "b c h w"], deviation: float) -> Float[Tensor, "b c h w"]:
    """The images under a Gaussian of a standard deviation in pixels; 0 leaves them as they are."""
    if deviation == 0:
        return images
    reach = int(3 * deviation + 1)
    weights = torch.exp(-torch.arange(-reach, reach + 1).float().square() / (2 * deviation**2))
    weights = (weights / weights.sum()).repeat(images.shape[1], 1, 1, 1)
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, weights.transpose(2, 3), groups=images.shape[1])
    return F.conv2d(rows, weights, groups=images.shape[1])


def least_linear_error(
    estimate: Float[Tensor, "b 3 h w"], scaled: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"]
) -> float:
    """The squared error of estimate + g · blur(x_t/√ᾱ − estimate) with the best g and blur for these scenes."""
    errors = []
    for deviation in (0, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8):
        change = blurred(scaled - estimate, deviation)
        gain = ((truth - estimate) * change).sum() / change.square().sum()
        errors.append((estimate + gain * change - truth).square().mean().item())
    return min(errors)


@torch.no_grad()
def test_it_denoises_better_than_any_linear_denoiser(model: InverseGraphics, scenes: Batch) -> None:
    """The linear one has two numbers a level, fitted to the scenes that judge it, and the model's own estimate."""
    truth = scenes.target.observation
    estimate = model.forward_model(model.denoiser.deterministic_field(scenes.context), scenes.target.params)
    conditioning = model.denoiser.condition(scenes.context, scenes.target.params)
    generator = torch.Generator().manual_seed(0)
    for number in LEVELS:
        level = torch.full((SCENES,), number)
        noise = torch.randn(truth.shape, generator=generator)
        noisy = model.process.add_noise(truth, noise, level)
        rate, _ = model.process.rates(level, level.float())
        denoised = model.forward_model(model.denoiser(noisy, level, conditioning), scenes.target.params)
        error = (denoised - truth).square().mean().item()
        linear = least_linear_error(estimate[:, 0], (noisy / rate.view(-1, 1, 1, 1, 1))[:, 0], truth[:, 0])
        assert error < linear, f"level {number}: {error:.4f} against {linear:.4f} of the linear denoiser"


@torch.no_grad()
def test_context_and_novel_views_are_far_better_than_repeating_the_context(
    model: InverseGraphics, scenes: Batch
) -> None:
    """The deterministic scene alone: no sampling, so no chance."""
    field = model.denoiser.deterministic_field(scenes.context)
    context = (model.forward_model(field, scenes.context.params) - scenes.context.observation).square().mean()
    novel = (model.forward_model(field, scenes.novel.params) - scenes.novel.observation).square().mean()
    repeated = (scenes.context.observation - scenes.novel.observation).square().mean()
    assert -10 * torch.log10(context / 4) > 20
    assert 10 * torch.log10(repeated / novel) > 2


def test_it_is_small_enough_to_come_with_the_program() -> None:
    folder = Path(dfm_lightning.__file__).parent / "pretrained"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 24 * 2**20
