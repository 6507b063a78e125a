"""The pendulum beside its exact posterior: how far draws are from it, and at which noise the spread is lost.

    cd examples/pendulum
    dfm fit -c pendulum.yaml
    python ../../benchmarks/pendulum_levels.py runs/pendulum/version_0/checkpoints/epoch=9-step=3000.ckpt

Prints scores of draws on test scenes, with standard errors over scenes, and, level by level, the distance between
the model's prediction and the exact mean given context and noisy target, an average over 200,000 curves: its
median and root mean square over validation scenes, beside what is still open there (the exact standard deviation).
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate

import dfm_lightning
from dfm_lightning import DiffusionWithForwardModel
from dfm_lightning.randomness import generator_for
from dfm_lightning.types import Batch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples/pendulum"))

from pendulum import NOISE, Displacements, Pendulum, curves_of_prior, posterior, scenes

LEVELS = (999, 500, 200, 100, 60, 30, 5)
PART = 20_000  # curves at once
COLUMNS = ("consistency", "consistency_exact", "spread", "spread_exact", "coverage", "energy_distance")


class AtLevel(NamedTuple):
    """Distance of the prediction from the exact mean, and the exact standard deviation: root mean squares."""

    distance: float
    left: float


@torch.no_grad()
def scores(model: Pendulum, scene: Batch, draws: int) -> dict[str, float]:
    """Score the draws of a scene of a batch of one: root mean squares over a curve, and the squared distance."""
    drawn = model.draw(scene.context, scene.target.params, samples=draws, seed=0, keys=scene.key)
    curves, true = torch.cat([draw.signal for draw in drawn]), scene.truth["signal"][0]
    seen = Displacements()(curves, scene.context.params.expand(draws, -1, -1))
    errors = (seen - scene.context.observation).flatten(1).square().mean(dim=1).sqrt()
    within = (curves.amin(dim=0) <= true) & (true <= curves.amax(dim=0))
    exact = model.score(drawn, scene)
    return {
        "consistency": errors.mean().item(),
        "consistency_exact": exact["consistency_exact"],
        "spread": curves.var(dim=0).mean().sqrt().item(),
        "spread_exact": exact["signal_spread_exact"],
        "coverage": within.float().mean().item(),
        "energy_distance": exact["energy_distance"],
    }


def exact_moments(
    model: DiffusionWithForwardModel, scene: Batch, chances: Tensor, noisy: Tensor, level: int
) -> tuple[Tensor, Tensor]:
    """Mean and deviation [1 64] of curves of some chances [200000], given a noisy target [1 1 1 1 32]."""
    signal_rate, noise_rate = model.process.exact_rates(level)
    variance = noise_rate**2 + (signal_rate * NOISE["target"]) ** 2
    params = scene.target.params.expand(PART, -1, -1)
    logarithms = [
        -(noisy - signal_rate * Displacements()(part, params)).square().flatten(1).sum(dim=1) / (2 * variance)
        for part in curves_of_prior().split(PART)
    ]
    both = (chances.double().log() + torch.cat(logarithms)).softmax(dim=0).float()[:, None, None]
    mean = (both * curves_of_prior()).sum(dim=0)
    return mean, (both * (curves_of_prior() - mean).square()).sum(dim=0).sqrt()


@torch.no_grad()
def at_level(model: DiffusionWithForwardModel, scene: Batch, chances: Tensor, number: int) -> AtLevel:
    """Compare the model's prediction for a scene, its target noised to a level, with the exact mean."""
    level, target = torch.tensor([number]), scene.target.observation
    noise = torch.randn(target.shape, generator=generator_for("levels", scene.key[0]))
    noisy = model.process.add_noise(target, noise, level)
    known = model.denoiser.condition(scene.context, scene.target.params)
    found = model.denoiser(*model.process.denoiser_input(noisy, level), known)[0]
    mean, deviation = exact_moments(model, scene, chances, noisy, number)
    return AtLevel((found - mean).square().mean().sqrt().item(), deviation.square().mean().sqrt().item())


def batches(count: int, split: str) -> list[Batch]:
    """Scenes, each a batch of one."""
    return [Batch(*default_collate([scene])) for scene in scenes(count, split)]


def with_error(values: list[float]) -> str:
    """A mean with its standard error."""
    found = torch.tensor(values)
    return f"{found.mean():.3f} ± {found.std() / len(found) ** 0.5:.3f}"


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--tested", type=int, default=32, help="scenes for draws")
    parser.add_argument("--split", choices=["val", "test"], default="test", help="whose scenes these are")
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--compared", type=int, default=8, help="validation scenes for levels")
    given = parser.parse_args()
    model = dfm_lightning.load(given.checkpoint)
    found = [scores(model, scene, given.draws) for scene in batches(given.tested, given.split)]
    for name in COLUMNS:
        print(f"{name}: {with_error([scene[name] for scene in found])}", flush=True)
    print("| level | still open | model from exact mean, median | root mean square |\n|---|---|---|---|")
    compared = [(scene, posterior(scene)) for scene in batches(given.compared, "val")]
    for number in LEVELS:
        each = [at_level(model, scene, chances, number) for scene, chances in compared]
        distances = torch.tensor([level.distance for level in each])
        left = torch.tensor([level.left for level in each]).square().mean().sqrt()
        root = distances.square().mean().sqrt()
        print(f"| {number} | {left:.3f} | {distances.median():.3f} | {root:.3f} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
