"""Train the hidden looks of a scene model apart, from estimates that are rendered once.

    dfm fit --config co3d_demo.yaml --config looks.yaml --initial_weights co3d_demo --new_parts true \\
        --trainer.max_steps 1
    python benchmarks/hidden_looks.py demo/fit/last.ckpt --root demo/objects_1200 --output looks.ckpt
    dfm fit --config co3d_demo.yaml --config looks.yaml --initial_weights looks.ckpt

A look (see `denoisers.hidden_look`) sees the deterministic estimate, which changes slowly, and averages of noisy
pixels, which cost nothing to draw. So the estimates of all training scenes are rendered once (a second for eight
views of a scene), and the looks see each of them many times, with eight noises each time: 2000 iterations take
seven minutes of a core, and would take hours in the model's own training. Writes the checkpoint with the trained
looks, and prints the error of the painted estimates of the validation scenes by level.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from sampler_errors import data_of
from torch import Tensor

import dfm_lightning
from dfm_lightning.checkpoints.stored_config import stored_config
from dfm_lightning.denoisers.hidden_look import HiddenLook
from dfm_lightning.denoisers.volume import VolumeDenoiser
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Batch, concatenate, repeat_batch, select_views

_NOISES = 8
_LEVELS = (500, 700, 800, 880, 940, 970)


class Estimated(NamedTuple):
    """Images, what the model renders of their scenes from one context view, and vectors of the contexts."""

    clean: Float[Tensor, "n 3 h w"]
    estimate: Float[Tensor, "n e h w"]
    summary: Float[Tensor, "n s"]


@torch.no_grad()
def estimates(denoiser: VolumeDenoiser, batches: Iterator[Batch]) -> Estimated:
    """Render the estimates of all target and novel views, in half precision."""
    found = []
    for batch in batches:
        views = concatenate([batch.target, batch.novel], dim=1)
        context = select_views(batch.context, slice(1))
        rendered = denoiser.estimate(context, views.params)
        summary = denoiser._coarse(context.observation)[1].repeat_interleave(rendered.shape[1], dim=0)
        found.append(Estimated(views.observation.flatten(0, 1).half(), rendered.flatten(0, 1).half(), summary))
        print(
            f"\rscenes rendered: {sum(len(f.clean) for f in found) // rendered.shape[1]}", end="", file=sys.stderr
        )
    return concatenate(found, dim=0)


def error(look: HiddenLook, model: InverseGraphics, shown: Estimated, level: Tensor) -> Float[Tensor, " n"]:
    """Paint estimates of images noised at the levels, which are a multiple of the images in number."""
    clean, estimate, summary = shown.clean.float(), shown.estimate.float(), shown.summary
    places = look.places(estimate, summary)
    parts = (clean, estimate, summary, places)
    clean, estimate, summary, places = (repeat_batch(part, len(level) // len(clean)) for part in parts)
    noisy = model.process.add_noise(clean, torch.randn_like(clean), level)
    rates = model.process.rates(level, level.float())
    painted = look(noisy, *rates, estimate, summary, places).painted
    return (painted - clean).square().flatten(1).mean(dim=1)


def train(look: HiddenLook, model: InverseGraphics, shown: Estimated, steps: int, rate: float) -> None:
    """Train the looks on noises of all levels at which they matter."""
    optimizer = torch.optim.Adam(look.parameters(), lr=rate, weight_decay=1e-5)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, step / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        chosen = torch.randint(len(shown.clean), (48,))
        level = torch.randint(300, 985, (len(chosen) * _NOISES,))
        loss = error(look, model, Estimated(*(part[chosen] for part in shown)), level).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 199:
            print(f"step {step + 1}: {float(loss.detach()):.4f}", flush=True)


@torch.no_grad()
def table(look: HiddenLook, model: InverseGraphics, shown: Estimated) -> None:
    """Print the error of estimates, painted and not, by level."""
    plain = (shown.estimate[:, :3].float() - shown.clean.float()).square().flatten(1).mean(dim=1)
    print("| level | estimate, dB | painted, dB |\n|---|---|---|")
    for number in _LEVELS:
        painted = error(look, model, shown, torch.full((4 * len(shown.clean),), number))
        first, second = (float(-10 * (e / 4).log10().mean()) for e in (plain, painted))
        print(f"| {number} | {first:.2f} | {second:.2f} |")


def main() -> None:
    """Render, train, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of a volume denoiser with hidden_colours")
    parser.add_argument("--root", required=True, help="the training scenes")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    model: InverseGraphics = dfm_lightning.load(options.checkpoint)
    denoiser = model.denoiser
    if not isinstance(denoiser, VolumeDenoiser) or denoiser.look is None:
        raise SystemExit(f"{options.checkpoint} has no hidden_colours")
    data = data_of(stored_config(options.checkpoint), options.root)
    data.prepare_data()
    data.setup("fit")
    look = denoiser.look
    train(look, model, estimates(denoiser, iter(data.train_dataloader())), options.steps, options.learning_rate)
    table(look, model, estimates(denoiser, iter(data.val_dataloader())))
    stored = torch.load(options.checkpoint, weights_only=True)
    stored["state_dict"].update({f"denoiser.look.{name}": value for name, value in look.state_dict().items()})
    torch.save(stored, options.output)


if __name__ == "__main__":
    main()
