"""Errors of the quicker renderings of sampling, for a trained model with a coarse and a fine pass.

    python benchmarks/rendering_options.py demo/pixelnerf/fit/last.ckpt --root demo/objects_400
    python benchmarks/rendering_options.py co3d_demo --points 16 16 --evaluations 50 --root demo/objects_1200

The same noise for all settings, on validation scenes. "estimates": PSNR of the renderings of single evaluations
against the exact ones, given the same noisy images at a level of little, medium and much noise. "samples": PSNR of
whole samples against those drawn exactly, whose noisy images go apart as well. Mean over scenes, standard error;
images from -1 to 1. Work is counted by PyTorch over the whole sampling, as a share of the exact one's. A single
evaluation at a level where points are shared follows one that is --apart levels noisier, which has placed them.
A model without a fine pass needs --points.
"""

import argparse
import statistics
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from sampler_errors import data_of
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import dfm_lightning
from dfm_lightning.checkpoints.shipped import find_checkpoint
from dfm_lightning.checkpoints.stored_config import stored_config
from dfm_lightning.diffusion import DDIM
from dfm_lightning.sampling import evaluating
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.tuning.converged import Problem, problems_of
from dfm_lightning.tuning.tuning import validation_scenes
from dfm_lightning.types import Batch

# Shares of the noisiest level.
LEVELS = (0.1, 0.5, 0.9)


class Setting(NamedTuple):
    """One way of rendering; `noisy` is the share of the fine samples that noisy levels have."""

    name: str
    skipped_light: float = 0.0
    noisy: float | None = None
    bf16: bool = False
    sharing: int = 1


SETTINGS = [
    Setting("exact"),
    *(Setting(f"skipped_light {share}", share) for share in (0.001, 0.005, 0.02)),
    Setting("noisy_fine_samples 1/4", noisy=0.25),
    Setting("bf16", bf16=True),
    Setting("skipped_light 0.005, noisy_fine_samples 1/4", 0.005, 0.25),
    Setting("all three", 0.005, 0.25, True),
    *(Setting(f"evaluations_per_placement {count}", sharing=count) for count in (2, 5)),
    *(
        Setting(f"evaluations_per_placement {count}, noisy_fine_samples 1/4, bf16", 0.0, 0.25, True, count)
        for count in (2, 5)
    ),
]


class Drawn(NamedTuple):
    """Estimates of single evaluations, by level and scene; samples by scene; operations."""

    estimates: list[Tensor]
    samples: Tensor
    flops: int


def draw(model: InverseGraphics, scenes: list[Batch], setting: Setting, apart: int) -> Drawn:
    """Evaluate and sample all scenes under a setting."""
    renderer = model.forward_model
    renderer.skipped_light = setting.skipped_light
    renderer.evaluations_per_placement = setting.sharing
    full = renderer.fine_samples
    renderer.noisy_fine_samples = None if setting.noisy is None else max(1, round(full * setting.noisy))
    precision = torch.autocast("cpu", torch.bfloat16) if setting.bf16 else nullcontext()
    with evaluating(model), precision, FlopCounterMode(display=False) as counted:
        problems: list[Problem] = list(problems_of(model, scenes))
        samples = torch.cat([problem.sampled(model.sampler, model.process).float() for problem in problems])
        flops = counted.get_total_flops()
        estimates = []
        for share in LEVELS:
            parts = []
            for problem, batch in zip(problems, scenes, strict=True):
                for before in (apart, 0):
                    level = torch.full((len(problem.noise),), int(share * model.process.last_level) + before)
                    noisy = model.process.add_noise(batch.target.observation, problem.noise, level)
                    estimate = problem.denoise(noisy, level).clean.float()
                parts.append(estimate)
            estimates.append(torch.cat(parts))
    return Drawn(estimates, samples, flops)


def psnr(images: Tensor, exact: Tensor) -> str:
    """Mean over scenes of the PSNR of images from -1 to 1, and its standard error."""
    errors = (images - exact).square().flatten(1).mean(dim=1).clamp(min=1e-12)
    each = (10 * torch.log10(4 / errors)).tolist()
    return f"{statistics.mean(each):.1f} ± {statistics.stdev(each) / len(each) ** 0.5:.1f}"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint")
    parser.add_argument("--root", help="where its data set lies; as its config says if not given")
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--evaluations", type=int, help="of DDIM, instead of the model's own sampler")
    parser.add_argument("--points", type=int, nargs=2, help="coarse and fine samples of a ray, not the model's")
    parser.add_argument("--no_bf16", action="store_true", help="where the processor has no instructions for it")
    parser.add_argument("--apart", type=int, default=80, help="levels from the evaluation that places points")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model: Any = dfm_lightning.load(arguments.model)
    scenes = validation_scenes(
        data_of(stored_config(find_checkpoint(arguments.model)), arguments.root), arguments.scenes, "cpu"
    )
    if arguments.evaluations is not None:
        model.sampler = DDIM(arguments.evaluations, temperature=model.sampler.temperature)
    if arguments.points is not None:
        model.forward_model.coarse_samples, model.forward_model.fine_samples = arguments.points
    if not model.forward_model.fine_samples:
        parser.error(f"{arguments.model} has no fine pass: give --points COARSE FINE")
    exact = draw(model, scenes, SETTINGS[0], arguments.apart)
    titles = ["setting", *(f"estimates, level {share:g}" for share in LEVELS), "samples", "work"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for setting in SETTINGS[1:]:
        if setting.bf16 and arguments.no_bf16:
            continue
        found = draw(model, scenes, setting, arguments.apart)
        row = [setting.name]
        row += [psnr(*pair) for pair in zip(found.estimates, exact.estimates, strict=True)]
        row += [psnr(found.samples, exact.samples), f"{found.flops / exact.flops:.2f}"]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
