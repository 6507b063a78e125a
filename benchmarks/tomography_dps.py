"""Tomography from three angles: the example's model beside deepinv's diffusion posterior sampling (DPS).

    pip install 'dfm-lightning[deepinv]'
    python benchmarks/tomography_dps.py runs/tomography_dps

Trains examples/tomography, which sees projections alone; then a denoiser of clean images for as much processor
time, with the same network and the same bodies: the prior of DPS (Chung et al. 2023). DPS
compares projections as they are, or filtered as ours are; its weight is the one with the least error of images on
validation scenes, for each. Prints errors on test scenes and processor time a draw, as a table in Markdown. Each
part is kept in the folder, and made only where it is missing.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import deepinv
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import dfm_lightning
from dfm_lightning.denoisers.operator_denoiser import edm_preconditioning, edm_weight
from dfm_lightning.files import whole_file
from dfm_lightning.networks.dit import LevelEmbedding
from dfm_lightning.networks.unet import UNet

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/tomography"
CONFIG = EXAMPLE / "tomography.yaml"
sys.path.insert(0, str(EXAMPLE))

from tomography import SIDE, half_ramp, phantoms, rays, scenes  # noqa: E402

from dfm_lightning.types import Batch  # noqa: E402

# Mean and standard deviation of pixels, and the law of ln σ in the denoiser's training.
MEAN, STD, NOISE = 0.25, 0.25, (-1.6, 1.5)
LEAST, GREATEST = 0.002, 80.0
WEIGHTS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


class CleanDenoiser(nn.Module):
    """The example's U-Net as a denoiser of images with noise of standard deviation σ, with EDM's preconditioning.

    Its interface is deepinv's: images [b 1 h w] around [0, 1], σ a number or a tensor [b].
    """

    def __init__(self) -> None:
        super().__init__()
        self.level = LevelEmbedding(64)
        self.unet = UNet(2, 1, 1, [16, 32, 48], 64)

    def forward(self, x: Tensor, sigma: Any, *args: Any, **settings: Any) -> Tensor:
        """Return the mean of clean images."""
        known = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1).expand(len(x))
        parts = edm_preconditioning(known, STD)
        place = (known.clamp(LEAST, GREATEST) / LEAST).log() / math.log(GREATEST / LEAST)
        centred = x - MEAN
        residual = self.unet(parts.into * centred, self.level((999 * place).long()))
        return MEAN + parts.skip * centred + parts.out * residual


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What a file of tensors or numbers holds; made and written if there is none."""
    if not path.exists():
        made = make()
        with whole_file(path) as aside:
            torch.save(made, aside)
    return torch.load(path, weights_only=True)


def train_ours(folder: Path, iterations: int, inversion_steps: int) -> dict[str, Any]:
    """Run the example; return its checkpoint's path in the folder and the processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    paths = os.pathsep.join([str(EXAMPLE), str(EXAMPLE.parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", "from dfm_lightning.cli import main; main()", "fit", "-c", str(CONFIG)]
    command += ["--trainer.max_steps", str(iterations)]
    command += ["--model.init_args.denoiser.init_args.inversion_steps", str(inversion_steps)]
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, "PYTHONPATH": paths})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    newest = max((folder / "runs").rglob("*.ckpt"), key=lambda path: path.stat().st_mtime)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"checkpoint": str(newest.relative_to(folder)), "seconds": seconds}


def train_denoiser(seconds: float) -> dict[str, Any]:
    """Train the denoiser of clean images for so many processor seconds; return the average of its last weights."""
    torch.manual_seed(0)
    start, step, spent = time.process_time(), 0, 0.0
    images = phantoms(4000, "train")  # those that the example projects
    model = CleanDenoiser()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.998), use_buffers=True)
    while spent < seconds:
        # As the example's: a warm-up, then half a cosine, by the time that is left.
        rate = min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * spent / seconds))
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * rate
        clean = images[torch.randint(len(images), (8,))]
        sigma = (NOISE[0] + NOISE[1] * torch.randn(len(clean))).exp().clamp(LEAST, GREATEST)
        found = model(clean + sigma[:, None, None, None] * torch.randn_like(clean), sigma)
        error = (found - clean).square().flatten(1).mean(dim=1)
        optimizer.zero_grad()
        (edm_weight(sigma, STD) * error).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(model)
        step, spent = step + 1, time.process_time() - start
    return {"weights": average.module.state_dict(), "steps": step}


def errors(drawn: Tensor, tested: Sequence[Batch]) -> dict[str, list[float]]:
    """Root mean square errors [scenes] of images, and of rays at given angles (not filtered), averaged over draws.

    Draws are [scenes draws 1 h w].
    """
    found: dict[str, list[float]] = {"image": [], "given": []}
    for images, scene in zip(drawn, tested, strict=True):
        wrong = images - scene.truth["signal"]
        for name, difference in (
            ("image", wrong),
            ("given", rays(wrong, scene.context.params.expand(len(images), -1, -1))),
        ):
            found[name].append(difference.flatten(1).square().mean(dim=1).sqrt().mean().item())
    return found


def measure_ours(model: Any, tested: Sequence[Batch], draws: int) -> dict[str, Any]:
    """Draw with the example's model, the draws of a scene in one batch, and score."""
    model.draw_batch = draws  # whole batches are drawn, however few are wanted
    start = time.process_time()
    drawn = [
        torch.cat([draw.signal for draw in model.draw(s.context, s.target.params, draws, seed=0, keys=[s.key])])
        for s in tested
    ]
    seconds = (time.process_time() - start) / (len(tested) * draws)
    return {**errors(torch.stack(drawn), tested), "seconds": seconds}


def measure_dps(
    denoiser: CleanDenoiser, tested: Sequence[Batch], draws: int, steps: int, weight: float, filtered: bool
) -> dict[str, Any]:
    """Draw with DPS, all draws of all scenes in one batch, and score."""
    angles = torch.cat([scene.context.params for scene in tested]).repeat_interleave(draws, dim=0)
    images = torch.stack([scene.truth["signal"] for scene in tested]).repeat_interleave(draws, dim=0)
    matrix = half_ramp() if filtered else torch.eye(SIDE)
    physics = deepinv.physics.Physics(A=lambda x, **_: rays(x, angles[:, None])[:, 0] @ matrix)
    seen = physics(images)
    rng = torch.Generator().manual_seed(0)
    dps = deepinv.sampling.DPS(denoiser, num_steps=steps, weight=weight, rng=rng)
    start = time.process_time()
    drawn = dps(seen, physics, x_init=(len(seen), 1, SIDE, SIDE), seed=0).float()
    seconds = (time.process_time() - start) / len(drawn)
    return {**errors(drawn.unflatten(0, (-1, draws)), tested), "seconds": seconds}


def row(name: str, found: dict[str, Any]) -> str:
    """A row of the table: means with standard errors over scenes."""
    cells = []
    for key in ("image", "given"):
        values = torch.tensor(found[key])
        cells.append(f"{values.mean():.4f} ± {values.std() / len(values) ** 0.5:.4f}")
    return f"| {name} | {cells[0]} | {cells[1]} | {found['seconds']:.3f} s |"


def main() -> None:
    """Train, choose and measure what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--iterations", type=int, default=4000, help="of the example")
    parser.add_argument("--inversion_steps", type=int, default=1, help="of the example's denoiser")
    parser.add_argument("--steps", type=int, nargs="*", default=[1000, 100], help="evaluations of DPS")
    parser.add_argument("--weights", type=float, nargs="*", default=WEIGHTS, help="of DPS, to choose from")
    parser.add_argument("--draws", type=int, default=2, help="for each test scene")
    parser.add_argument("--tuned", type=int, default=8, help="validation scenes")
    parser.add_argument("--tested", type=int, default=32, help="test scenes")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    ours = kept(folder / "ours.pt", lambda: train_ours(folder, given.iterations, given.inversion_steps))
    prior = kept(folder / "denoiser.pt", lambda: train_denoiser(ours["seconds"]))
    print(f"# trained {ours['seconds']:.0f} s each, the denoiser {prior['steps']} steps", flush=True)
    denoiser = CleanDenoiser().eval()
    denoiser.load_state_dict(prior["weights"])
    model = dfm_lightning.load(folder / ours["checkpoint"])
    chosen, tested = scenes(given.tuned, "val"), scenes(given.tested, "test")
    rows = []
    for steps in given.steps:
        tuned = {}
        for filtered in (False, True):
            for weight in given.weights:
                choice = (weight, filtered)
                name = f"{steps} steps, weight {weight:g}{', filtered' if filtered else ''}"
                path = folder / f"val_{given.tuned}_{name.replace(', ', '_').replace(' ', '_')}.pt"
                tuned[choice] = kept(path, lambda s=steps, c=choice: measure_dps(denoiser, chosen, 1, s, *c))
                print(row(f"# validation, {name}", tuned[choice]), flush=True)
        for filtered in (False, True):
            choices = [(weight, filtered) for weight in given.weights]
            best = min(choices, key=lambda choice: sum(tuned[choice]["image"]))
            path = folder / f"test_{given.tested}_{given.draws}_{steps}_{best[0]:g}_{best[1]:d}.pt"
            found = kept(path, lambda s=steps, c=best: measure_dps(denoiser, tested, given.draws, s, *c))
            rows.append(row(f"DPS, {steps} steps, weight {best[0]:g}{', filtered' if best[1] else ''}", found))
    path = folder / f"test_{given.tested}_{given.draws}_ours.pt"
    rows.insert(0, row("ours", kept(path, lambda: measure_ours(model, tested, given.draws))))
    print(json.dumps({"scenes": given.tested, "draws": given.draws}))
    print("| | image | given angles (consistency) | processor time a draw |\n|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
