"""Fits the small StyleGAN2 of the GAN-inversion demo to procedurally drawn faces.

The latent numbers behind a drawn face are known, so the generator is fitted to them directly, noise by noise,
face by face: that takes minutes on one CPU core, where adversarial training takes hours. What comes out is a
StyleGAN2 like any other: a mapping network, a space of codes w, and a synthesis network. The codes come first;
then the generator grows: fitted at 16 pixels, where a step costs half, then at 32.

    python examples/fit_face_generator.py faces.safetensors

The same seed gives the same generator on the same machine. Interrupted, it continues where it stopped.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from drawn_faces import ATTRIBUTES, appearance, draw_faces, faces_from_noise
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.files import whole_file
from dfm_lightning.networks.stylegan2.architecture import Architecture
from dfm_lightning.networks.stylegan2.generator import Generator
from dfm_lightning.networks.stylegan2.storage import write_generator
from dfm_lightning.randomness import generator_for

ARCHITECTURE = Architecture(
    z_dim=ATTRIBUTES,
    w_dim=32,
    channels=(64, 64, 32, 32),
    mapping_features=(128, 128, 128, 32),
    mapping_lr_multiplier=0.3,
)


class Stage(NamedTuple):
    """A part of the fit: with how many blocks, whether images are fitted or the codes alone, and how long.

    `share` is that of all steps, `rate` a factor on the learning rate.
    """

    blocks: int
    images: bool
    share: float
    rate: float


STAGES = (Stage(3, False, 0.45, 0.2), Stage(3, True, 0.2, 1.0), Stage(4, True, 0.35, 0.7))
# Faces a step of which the appearance is told from their codes; few of them are drawn, which costs far more.
CODES = 256


class Fit(nn.Module):
    """A generator and a linear map from its codes to what a face is painted with.

    The map makes the mapping network decide early on what a face looks like; then the synthesis network has
    clear codes to learn from. It is thrown away at the end.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.generator = Generator(architecture)
        self.appearance = nn.Linear(
            architecture.w_dim, appearance(faces_from_noise(torch.zeros(1, ATTRIBUTES) + 1)).shape[1]
        )

    def forward(self, z: Float[Tensor, "b z"], faces: int) -> Float[Tensor, ""]:
        """The loss: errors of the appearance of all faces, and of the images of the first few, if any."""
        codes = self.generator.codes(z)[:, :1]
        told = (self.appearance(codes[:, 0]) - appearance(faces_from_noise(z))).square().mean()
        if faces == 0:
            return told
        truth = draw_faces(faces_from_noise(z[:faces]), self.generator.architecture.resolution)
        # Noise inputs stay off: a drawn face has no detail that its numbers do not tell.
        return told + image_loss(self.generator(codes[:faces], "none"), truth)


def image_loss(image: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Absolute and squared errors of the pixels and of their differences to the right and below.

    Thin lines matter as much as areas, and squares pull towards what is there in half of the faces only, where
    absolute errors see no reason to begin.
    """
    error = image - truth
    parts = (error, error.diff(dim=2), error.diff(dim=3))
    return torch.stack([part.abs().mean() + 2 * part.square().mean() for part in parts]).sum()


def draw_noise(count: int, *names: str | int, seed: int) -> Float[Tensor, "b z"]:
    """Standard normal noise that depends on the seed and on what it is for alone."""
    return torch.randn(count, ATTRIBUTES, generator=generator_for("face generator", *names, seed=seed))


def fit(path: Path, iterations: int, batch: int, learning_rate: float, seed: int) -> None:
    """Fit a generator and write it; `path` with the suffix .partial holds the state to continue from."""
    partial = path.with_suffix(".partial")
    model, done, first = None, 0.0, 0
    for number, stage in enumerate(STAGES):
        done += stage.share
        steps = range(first, round(done * iterations))
        torch.manual_seed(seed + number)
        model = grow(model, stage.blocks)
        run(model, steps, batch if stage.images else 0, stage.rate * learning_rate, seed, partial)
        first = steps.stop
    assert model is not None
    finish(model.generator, path, seed)
    partial.unlink(missing_ok=True)


@torch.no_grad()
def grow(model: Fit | None, blocks: int) -> Fit:
    """The same with as many blocks; a new one adds no colours yet, so that the image stays as it is, enlarged."""
    grown = Fit(replace(ARCHITECTURE, channels=ARCHITECTURE.channels[:blocks]))
    if model is not None:
        grown.load_state_dict(model.state_dict(), strict=False)
        for block in list(grown.generator.synthesis.blocks)[len(model.generator.synthesis.blocks) :]:
            block.to_rgb.weight.zero_()
    return grown


def run(model: Fit, steps: range, faces: int, learning_rate: float, seed: int, partial: Path) -> None:
    """Fit one stage, continuing where an interrupted run stopped."""
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, len(steps)))
    stateful = {"model": model, "optimizer": optimizer, "schedule": schedule}
    first = restore(stateful, steps, partial)
    started, running = time.perf_counter(), 0.0
    for step in range(first, steps.stop):
        loss = model(draw_noise(CODES, "step", step, seed=seed), faces)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        running += (loss.item() - running) / min(step - first + 1, 100)
        if (step + 1) % 100 == 0 or step + 1 == steps.stop:
            left = (time.perf_counter() - started) / (step + 1 - first) * (steps.stop - step - 1)
            what = f"{model.generator.architecture.resolution} pixels" if faces > 0 else "codes"
            print(f"{what}: {step + 1}/{steps.stop}  loss {running:.4f}  {left / 60:.1f} minutes left", flush=True)
            store(stateful, step + 1, partial)


@torch.no_grad()
def finish(generator: Generator, path: Path, seed: int) -> None:
    """Measure the mean code, and write the generator in half precision."""
    z = draw_noise(20_000, "mean code", seed=seed)
    generator.mapping.mean_code.copy_(generator.mapping(z, z[:, :0]).mean(dim=0))
    write_generator(generator, path, torch.float16)


def store(stateful: dict, step: int, path: Path) -> None:
    """Write what is needed to continue."""
    with whole_file(path) as aside:
        torch.save({"step": step, **{name: part.state_dict() for name, part in stateful.items()}}, aside)


def restore(stateful: dict, steps: range, path: Path) -> int:
    """Read what an interrupted run left of this stage; the step it got to."""
    if not path.exists():
        return steps.start
    state = torch.load(path, weights_only=True)
    if state["step"] <= steps.start:
        return steps.start
    step = min(state["step"], steps.stop)
    if state["step"] <= steps.stop:
        for name, part in stateful.items():
            part.load_state_dict(state[name])
    return step


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the generator file to write (.safetensors)")
    parser.add_argument("--iterations", type=int, default=3600, help="steps of the optimizer")
    parser.add_argument("--batch", type=int, default=16, help="faces a step")
    parser.add_argument("--learning-rate", type=float, default=3e-2, help="Adam's, at the start")
    parser.add_argument("--seed", type=int, default=0, help="decides about everything random")
    fit(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
