"""Deblurring beside its exact posterior: where the distance of samples comes from.

    python benchmarks/deblurring_levels.py unet --inversion_steps 6
    python benchmarks/deblurring_levels.py mlp
    python benchmarks/deblurring_levels.py bounds

Trains a stock denoiser on examples/deblurring as its notebook does. Prints processor time, the energy distance of
draws to the exact posterior, with standard errors over scenes, and the denoiser's error at each diffusion level:
its root mean square distance from the exact conditional mean. `bounds` trains nothing: it samples with the exact
denoiser, and states how far the posterior is from the one of somebody who does not know the context's kernel.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor
from torch.utils.data import default_collate

from dfm_lightning import DiffusionWithForwardModel
from dfm_lightning.denoisers import MLPDenoiser, UNetDenoiser
from dfm_lightning.diffusion import CosineProcess, Quadratic, UniPC
from dfm_lightning.interfaces import SignalDenoiser
from dfm_lightning.optimizers import AdamWithWarmup
from dfm_lightning.randomness import generator_for
from dfm_lightning.types import Batch, Level, Views

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples/deblurring"))

from deblurring import (
    NOISE,
    SIDE,
    Blurring,
    Strokes,
    all_images,
    energy_distance,
    kernels,
    posterior,
    scenes,
)

SHAPE = [1, SIDE, SIDE]
LEVELS = (999, 800, 600, 400, 200, 100, 5)


class Known(NamedTuple):
    """Logarithms of the images' chances given the context [b 256], and the targets they would give."""

    chances: Tensor
    targets: Tensor
    noise: Tensor


class Exact(SignalDenoiser):
    """The mean of the 256 images, given the context and a noisy target."""

    def use_process(self, process: Any) -> None:
        """See `SignalDenoiser`."""
        self.process = (process,)

    def condition(self, context: Views, target_params: Tensor) -> Known:
        """See `SignalDenoiser`."""
        seen, targets = (seen_of_all(params) for params in (context.params, target_params))
        return Known(log_chances(seen, context.observation[:, 0]), targets, target_params[:, :, -1])

    def forward(self, noisy: Tensor, level: Level, conditioning: Known) -> Tensor:
        """See `SignalDenoiser`."""
        signal_rate, noise_rate = (rate.view(-1, 1, 1, 1, 1) for rate in self.process[0].rates(level, noisy))
        errors = (noisy - signal_rate * conditioning.targets).square().flatten(2).sum(2)
        variance = noise_rate.square().flatten(1) + (signal_rate.flatten(1) * conditioning.noise).square()
        chances = (conditioning.chances - errors / (2 * variance)).softmax(1)
        return torch.einsum("bi,ichw->bchw", chances, all_images())


def seen_of_all(params: Tensor) -> Tensor:
    """Observations [b 256 1 16 16] of all images, without noise, under parameters [b 1 82]."""
    return torch.stack([Blurring()(all_images(), each.expand(256, -1, -1))[:, 0] for each in params])


def log_chances(seen: Tensor, observation: Tensor) -> Tensor:
    """Logarithms of likelihoods [b 256] of images, up to a constant; observations [b 1 16 16]."""
    return -(seen - observation[:, None]).square().flatten(2).sum(2) / (2 * NOISE["context"] ** 2)


def model_of(denoiser: SignalDenoiser) -> DiffusionWithForwardModel:
    """The notebook's model."""
    optimizer = AdamWithWarmup(learning_rate=2e-3, warmup_steps=100, decay="cosine")
    sampler = UniPC(10, spacing=Quadratic())
    return DiffusionWithForwardModel(
        denoiser, Blurring(), CosineProcess(emphasis=1), sampler, optimizer, draw_batch=32
    )


def train(model: DiffusionWithForwardModel, iterations: int) -> None:
    """Train as the notebook does."""
    trainer = Trainer(
        max_steps=iterations,
        gradient_clip_val=1,
        callbacks=[EMAWeightAveraging(decay=0.995)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(model, Strokes().train_dataloader())
    model.eval()


def with_error(values: list[float]) -> str:
    """A mean with its standard error."""
    found = torch.tensor(values)
    return f"{found.mean():.3f} ± {found.std() / len(found) ** 0.5:.3f}"


def distances(model: DiffusionWithForwardModel, tested: list[Batch], draws: int = 32) -> list[float]:
    """Squared energy distances to the exact posterior, scene by scene."""
    found = []
    for scene in tested:
        params = torch.cat([scene.target.params, scene.novel.params])
        drawn = model.draw(scene.context, params, samples=draws, seed=0, keys=[str(scene.key)])
        found.append(float(energy_distance(torch.cat([each.signal for each in drawn]), posterior(scene))))
    return found


@torch.no_grad()
def errors_by_level(model: DiffusionWithForwardModel, tested: list[Batch]) -> dict[int, float]:
    """Root mean square distance between the denoiser's prediction and the exact mean, at each level."""
    batch, exact = Batch(*default_collate(tested)), Exact()
    exact.use_process(model.process)
    own, right = (part.condition(batch.context, batch.target.params) for part in (model.denoiser, exact))
    noise = torch.randn(batch.target.observation.shape, generator=generator_for("levels"))
    found = {}
    for number in LEVELS:
        level = torch.full((len(tested),), number)
        noisy = model.process.add_noise(batch.target.observation, noise, level)
        given = model.process.denoiser_input(noisy, level)
        found[number] = float((model.denoiser(*given, own) - exact(noisy, level, right)).square().mean().sqrt())
    return found


def ignorance(tested: list[Batch], count: int = 256) -> list[float]:
    """Distances of the exact posteriors from those of one who knows of the kernel that it is one of many."""
    images = all_images().flatten(1)
    between = torch.cdist(images, images)
    several = kernels(count, 2.0, 3.0, generator_for("kernels that might be"))
    params = torch.cat([several, torch.full((count, 1), NOISE["context"])], dim=1)[:, None]
    seen, found = seen_of_all(params), []
    for scene in tested:
        joint = log_chances(seen, scene.context.observation.expand(count, -1, -1, -1))
        blind, right = joint.flatten().softmax(0).view(joint.shape).sum(dim=0), posterior(scene)
        apart = blind - right
        found.append(float(-(apart @ between @ apart)))
    return found


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["unet", "mlp", "bounds"])
    parser.add_argument("--inversion_steps", type=int, default=1, help="of the U-Net")
    parser.add_argument("--iterations", type=int, default=3000)
    parser.add_argument("--tested", type=int, default=16, help="scenes")
    parser.add_argument("--split", choices=["val", "test"], default="test")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    seed_everything(0, verbose=False)
    tested = scenes(given.tested, given.split)
    if given.what == "bounds":
        print(f"exact denoiser: {with_error(distances(model_of(Exact()), tested))}")
        print(f"kernel unknown: {with_error(ignorance(tested))}")
        return
    denoiser: SignalDenoiser = MLPDenoiser(676, SHAPE)
    if given.what == "unet":
        denoiser = UNetDenoiser(SHAPE, [16, 32, 64], level_width=64, inversion_steps=given.inversion_steps)
    model, start = model_of(denoiser), time.process_time()
    train(model, given.iterations)
    print(f"processor time: {time.process_time() - start:.0f} s")
    print(f"energy distance: {with_error(distances(model, tested))}")
    for level, error in errors_by_level(model, scenes(96, given.split)).items():
        print(f"level {level}: {error:.4f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
