"""How well a scene model denoises a true target view at several levels, there and from elsewhere.

    python benchmarks/denoised_levels.py co3d_demo

Samples are only as good as this. Makes six test scenes whose hidden part has a known look (plain ones of `dfm
data make-co3d`, another seed than any training's), noises each true target view, and prints for every level: the
error of the denoised scene at target and novel views (PSNR), how far the mean colour of hidden pixels is from the
true one (in [-1, 1]), and both for the volume denoiser's 2D estimate. Without guidance, which is for samples.
With --linear it prints instead the error at the target of all scenes together, for the model, for the linear
denoiser of tests/linear_denoiser.py, whose two numbers are fitted to these scenes, and for the 2D estimate.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Bool, Float
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from linear_denoiser import least_linear_error

from datamodules.co3d import Co3DDataModule
from datamodules.posed.back_from_target import BackFromTarget
from datamodules.synthetic.co3d.writer import write_synthetic_co3d
from dfm_lightning import load
from dfm_lightning.denoisers import VolumeDenoiser
from dfm_lightning.denoisers.volume_field import VolumeField
from dfm_lightning.signals import RadianceField
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Batch, Views, concatenate


def decibels(found: Float[Tensor, "b v 3 h w"], true: Float[Tensor, "b v 3 h w"]) -> float:
    """Return the mean PSNR of images in [-1, 1], over scenes."""
    error = ((found - true) / 2).square().flatten(1).mean(dim=1)
    return float(-10 * error.log10().mean())


def colour_error(
    found: Float[Tensor, "b v 3 h w"], true: Float[Tensor, "b v 3 h w"], hidden: Bool[Tensor, "b v h w"]
) -> float:
    """Return the distance between mean colours of hidden pixels, averaged over the scenes that show some."""
    distances = []
    for one, other, mask in zip(found, true, hidden, strict=True):
        if mask.any():
            one, other = (images.movedim(1, -1)[mask].mean(dim=0) for images in (one, other))
            distances.append(float((one - other).norm()))
    return sum(distances) / len(distances)


def read_scenes(root: Path, count: int, seed: int, plain: bool) -> Batch:
    """Make test scenes of the synthetic objects, and read them as one batch."""
    size = {"frames": 16, "height": 64, "width": 64}
    write_synthetic_co3d(root, train_scenes=1, val_scenes=1, test_scenes=count, **size, seed=seed, plain=plain)
    views = BackFromTarget(distance=(1, 8))
    data = Co3DDataModule(str(root), "toy", views=views, image_size=32, target_scale=4.0, workers=0)
    data.prepare_data()
    data.setup("test")
    batches = [batch._replace(key=[]) for batch in data.test_dataloader()]
    return concatenate(batches, dim=0)._replace(key=[str(number) for number in range(count)])


def target_estimate(field: VolumeField) -> Float[Tensor, "b 1 3 h w"]:
    """Return the 2D estimate of the target that a field was made from, in [-1, 1]."""
    return field.views.maps[:, -1:, ..., -3:].movedim(-1, 2) * 2 - 1


def print_row(level: int, numbers: list[float]) -> None:
    """Print a row of the table."""
    print(f"| {level} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |", flush=True)


Denoised = tuple[int, Tensor, RadianceField]


def denoised(model: InverseGraphics, batch: Batch, levels: list[int]) -> Iterator[Denoised]:
    """Noise the true targets and denoise them, level by level: the level, the noisy images, and the scenes."""
    conditioning = model.denoiser.condition(batch.context, batch.target.params)
    generator = torch.Generator().manual_seed(0)
    for number in levels:
        level = torch.full((len(batch.key),), number)
        noise = torch.randn(batch.target.observation.shape, generator=generator)
        noisy = model.process.add_noise(batch.target.observation, noise, level)
        yield number, noisy, model.denoiser(noisy, level, conditioning)


def print_errors(model: InverseGraphics, batch: Batch, levels: list[int]) -> None:
    """Print the table of images and colours."""
    views: Views = concatenate([batch.target, batch.novel], dim=1)
    true = views.observation
    hidden = batch.truth["hidden"].flatten(1, 2)[:, -true.shape[1] :] > 0.9
    print("| level | target, dB | novel, dB | colour error | 2D estimate, dB | its colour error |")
    print("|---|---|---|---|---|---|")
    for number, _, field in denoised(model, batch, levels):
        found = model.render(field, views.params).image
        parts = [decibels(found[:, :1], true[:, :1]), decibels(found[:, 1:], true[:, 1:])]
        parts.append(colour_error(found, true, hidden))
        if isinstance(field, VolumeField):
            flat = target_estimate(field)
            parts += [decibels(flat, true[:, :1]), colour_error(flat, true[:, :1], hidden[:, :1])]
        print_row(number, parts)


def print_beside_linear(model: InverseGraphics, batch: Batch, levels: list[int]) -> None:
    """Print the table beside a linear denoiser."""
    true = batch.target.observation
    estimate = model.forward_model(model.denoiser.deterministic_field(batch.context), batch.target.params)
    print("| level | target, dB | linear denoiser, dB | 2D estimate, dB |\n|---|---|---|---|")
    for number, noisy, field in denoised(model, batch, levels):
        rate, _ = model.process.rates(torch.tensor([number]), torch.tensor([float(number)]))
        found = model.forward_model(field, batch.target.params)
        errors = [float((found - true).square().mean())]
        errors.append(least_linear_error(estimate[:, 0], noisy[:, 0] / rate, true[:, 0]))
        if isinstance(field, VolumeField):
            errors.append(float((target_estimate(field) - true).square().mean()))
        print_row(number, [-10 * math.log10(error / 4) for error in errors])


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a path, or the name of a model that comes with the program")
    parser.add_argument("--levels", type=int, nargs="+", default=[100, 700, 800, 880])
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--seed", type=int, default=3, help="seed of the scenes")
    parser.add_argument("--linear", action="store_true", help="beside a linear denoiser")
    parser.add_argument("--patterned", action="store_true", help="with patterns and companions")
    options = parser.parse_args()
    model: InverseGraphics = load(options.checkpoint)
    if isinstance(model.denoiser, VolumeDenoiser):
        model.denoiser.look_guidance = None
    with TemporaryDirectory() as folder:
        batch = read_scenes(Path(folder), options.scenes, options.seed, not options.patterned)
    table = print_beside_linear if options.linear else print_errors
    table(model, batch, options.levels)


if __name__ == "__main__":
    main()
