"""Fits the small StyleGAN2 of the GAN-inversion demo to procedurally drawn faces.

The latent numbers behind a drawn face are known, so the generator is fitted to them directly, noise by noise,
face by face: that takes minutes on one CPU core, where adversarial training takes hours. What comes out is a
StyleGAN2 like any other: a mapping network, a space of codes w, and a synthesis network.

    python examples/fit_face_generator.py faces.safetensors

The same seed gives the same generator on the same machine. Interrupted, it continues where it stopped.
"""

import argparse
import time
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from datamodules.synthetic.faces import ATTRIBUTES, draw_faces, faces_from_noise
from dfm_lightning.files import whole_file
from dfm_lightning.networks.stylegan2.architecture import Architecture
from dfm_lightning.networks.stylegan2.generator import Generator
from dfm_lightning.networks.stylegan2.storage import write_generator
from dfm_lightning.randomness import generator_for

ARCHITECTURE = Architecture(
    z_dim=ATTRIBUTES,
    w_dim=32,
    channels=(96, 96, 64, 32, 16),
    mapping_features=(64, 64, 64, 32),
    mapping_lr_multiplier=0.3,
)
# Thin lines matter as much as areas: the error of neighbouring pixels' differences is added with this weight.
EDGE_WEIGHT = 1.0


def draw_noise(count: int, *names: str | int, seed: int) -> Float[Tensor, "b z"]:
    """Standard normal noise that depends on the seed and on what it is for alone."""
    return torch.randn(count, ATTRIBUTES, generator=generator_for("face generator", *names, seed=seed))


def fitting_loss(image: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Absolute errors of the pixels and of their differences to the right and below."""
    error = image - truth
    edges = (error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()) / 2
    return error.abs().mean() + EDGE_WEIGHT * edges


def fit(path: Path, iterations: int, batch: int, learning_rate: float, seed: int) -> None:
    """Fit a generator and write it; `path` with the suffix .partial holds the state to continue from."""
    torch.manual_seed(seed)
    generator = Generator(ARCHITECTURE)
    optimizer = torch.optim.Adam(generator.parameters(), lr=learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    partial = path.with_suffix(".partial")
    stateful = {"generator": generator, "optimizer": optimizer, "schedule": schedule}
    first = restore(stateful, partial)
    started, running = time.perf_counter(), 0.0
    for iteration in range(first, iterations):
        z = draw_noise(batch, "iteration", iteration, seed=seed)
        truth = draw_faces(faces_from_noise(z), ARCHITECTURE.resolution)
        # Noise inputs stay off: a drawn face has no detail that its numbers do not tell.
        loss = fitting_loss(generator(generator.codes(z), "none"), truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        running += (loss.item() - running) / min(iteration - first + 1, 100)
        if (iteration + 1) % 200 == 0:
            left = (time.perf_counter() - started) / (iteration + 1 - first) * (iterations - iteration - 1)
            print(f"{iteration + 1}/{iterations}  loss {running:.4f}  {left / 60:.1f} minutes left", flush=True)
            keep(stateful, iteration + 1, partial)
    finish(generator, path, seed)
    partial.unlink(missing_ok=True)


@torch.no_grad()
def finish(generator: Generator, path: Path, seed: int) -> None:
    """Measure the mean code, and write the generator in half precision."""
    z = draw_noise(20_000, "mean code", seed=seed)
    generator.mapping.mean_code.copy_(generator.mapping(z, z[:, :0]).mean(dim=0))
    write_generator(generator, path, torch.float16)


def keep(stateful: dict, iteration: int, path: Path) -> None:
    """Write what is needed to continue."""
    with whole_file(path) as aside:
        torch.save({"iteration": iteration, **{name: part.state_dict() for name, part in stateful.items()}}, aside)


def restore(stateful: dict, path: Path) -> int:
    """Read what an interrupted run left; the iteration it got to, 0 if there was none."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    for name, part in stateful.items():
        part.load_state_dict(state[name])
    return state["iteration"]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the generator file to write (.safetensors)")
    parser.add_argument("--iterations", type=int, default=8000, help="steps of the optimizer")
    parser.add_argument("--batch", type=int, default=16, help="faces a step")
    parser.add_argument("--learning-rate", type=float, default=5e-3, help="Adam's, at the start")
    parser.add_argument("--seed", type=int, default=0, help="decides about everything random")
    fit(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
