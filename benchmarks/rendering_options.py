"""Errors of the quicker renderings of sampling, for a trained model with a coarse and a fine pass.

    python benchmarks/rendering_options.py demo/pixelnerf/fit/last.ckpt --root demo/co3d_400

The same noise for all settings, on validation scenes. "estimates": PSNR of the renderings of single evaluations
against the exact ones, given the same noisy images at a level of little, medium and much noise. "samples": PSNR of
whole samples against those drawn exactly, whose noisy images go apart as well. Mean over scenes, standard error;
images from -1 to 1. Work is counted by PyTorch over the whole sampling, as a share of the exact one's.

The second table has the time of evaluations at the paper's sizes: MLPs of width 512 at 64 + 64 points do the work,
and what they give is replaced by the values of the trained model, whose scenes have empty and hidden points. All
ways run in turn in one process: only the ratio of their CPU seconds counts.
"""

import argparse
import math
import statistics
import time
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from context_memory import steps
from sampler_errors import data_of
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import dfm_lightning
from dfm_lightning.checkpoints.shipped import find_checkpoint
from dfm_lightning.checkpoints.stored_config import stored_config
from dfm_lightning.denoisers.pixelnerf_field import PixelNeRFField
from dfm_lightning.denoisers.remembered_context import ContextMemory, RememberingField
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.sampling import evaluating
from dfm_lightning.signals import FieldStage, FieldValues, RadianceField
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.tuning.converged import Problem, problems_of
from dfm_lightning.tuning.tuning import validation_scenes
from dfm_lightning.types import Batch, map_tensors

# Shares of the noisiest level.
LEVELS = (0.1, 0.5, 0.9)


class Setting(NamedTuple):
    """One way of rendering; `noisy` is the share of the fine samples that noisy levels have."""

    name: str
    skipped_light: float = 0.0
    noisy: float | None = None
    bf16: bool = False


SETTINGS = [
    Setting("exact"),
    *(Setting(f"skipped_light {share}", share) for share in (0.001, 0.005, 0.02)),
    Setting("noisy_fine_samples 1/4", noisy=0.25),
    Setting("bf16", bf16=True),
    Setting("skipped_light 0.005, noisy_fine_samples 1/4", 0.005, 0.25),
    Setting("all three", 0.005, 0.25, True),
]


class Drawn(NamedTuple):
    """Estimates of single evaluations, by level and scene; samples by scene; operations."""

    estimates: list[Tensor]
    samples: Tensor
    flops: int


def draw(model: InverseGraphics, scenes: list[Batch], setting: Setting) -> Drawn:
    """Evaluate and sample all scenes under a setting."""
    renderer = model.forward_model
    renderer.skipped_light = setting.skipped_light
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
                level = torch.full((len(problem.noise),), int(share * model.process.last_level))
                noisy = model.process.add_noise(batch.target.observation, problem.noise, level)
                parts.append(problem.denoise(noisy, level).clean.float())
            estimates.append(torch.cat(parts))
    return Drawn(estimates, samples, flops)


def psnr(images: Tensor, exact: Tensor) -> str:
    """Mean over scenes of the PSNR of images from -1 to 1, and its standard error."""
    errors = (images - exact).square().flatten(1).mean(dim=1).clamp(min=1e-12)
    each = (10 * torch.log10(4 / errors)).tolist()
    return f"{statistics.mean(each):.1f} ± {statistics.stdev(each) / len(each) ** 0.5:.1f}"


class Laden:
    """A trained field, with the work of one of the paper's size."""

    def __init__(self, shown: RadianceField, work: PixelNeRFField) -> None:
        self.shown = shown
        self.work = work

    @property
    def floats_per_point(self) -> int:
        """Return the numbers that a query holds for each point."""
        return self.work.floats_per_point

    def query(self, points: Tensor, stage: FieldStage) -> FieldValues:
        """Do the work, and return the trained field's values."""
        self.work.query(points, stage)
        return self.shown.query(points, stage)


class LadenRemembering(Laden):
    """The same, with the work of the context views at coarse points remembered."""

    def __init__(self, shown: RadianceField, work: PixelNeRFField, memory: ContextMemory) -> None:
        super().__init__(shown, work)
        self.remembering = RememberingField(work, memory)

    def query_again(self, points: Tensor, stage: FieldStage) -> FieldValues:
        """Do what work is left, and return the trained field's values."""
        self.remembering.query_again(points, stage)
        return self.shown.query(points, stage)


def evaluations_of(model: InverseGraphics, batch: Batch, contexts: int, side: int) -> list[list[Any]]:
    """Name the ways of one evaluation, and give a function that runs each, at little and at much noise."""
    works, _ = steps(contexts, side, "cpu")
    plain, skipped, fewer, both = (
        VolumeRendering(
            model.forward_model.near,
            model.forward_model.far,
            skipped_light=light,
            noisy_fine_samples=noisy_samples,
        ).eval()
        for light, noisy_samples in ((0.0, None), (0.005, None), (0.0, 16), (0.005, 16))
    )
    size = batch.target.params.pixels.shape[2]
    chosen = slice(size // side // 2, None, size // side)
    camera = batch.target.params._replace(pixels=batch.target.params.pixels[:, :, chosen, chosen])
    conditioning = model.denoiser.condition(batch.context, batch.target.params)
    noise = torch.randn_like(batch.target.observation)
    shown = []
    for share in (LEVELS[0], LEVELS[2]):
        level = torch.full((1,), int(share * model.process.last_level))
        noisy = model.process.add_noise(batch.target.observation, noise, level)
        shown.append(model.denoiser(noisy, level, conditioning))
    memory = ContextMemory(2**31)
    plain(LadenRemembering(shown[0], works[0], memory), camera)

    def way(
        name: str, renderers: tuple[VolumeRendering, VolumeRendering], remembered: bool, bf16: bool
    ) -> list[Any]:
        def run() -> list[Tensor]:
            images = []
            for field, renderer in zip(shown, renderers, strict=True):
                laden = LadenRemembering(field, works[1], memory) if remembered else Laden(field, works[1])
                with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
                    images.append(renderer(laden, camera).float())
            return images

        return [name, run]

    return [
        way("plain", (plain, plain), False, False),
        way("context remembered", (plain, plain), True, False),
        way("and skipped_light 0.005", (skipped, skipped), True, False),
        way("or noisy_fine_samples 16", (fewer, fewer.while_noisy()), True, False),
        way("both", (both, both.while_noisy()), True, False),
        way("both and bf16", (both, both.while_noisy()), True, True),
    ]


def time_evaluations(model: InverseGraphics, batch: Batch, side: int, rounds: int) -> None:
    """Print the time of two evaluations, one at little and one at much noise, at the paper's sizes."""
    titles = [
        "contexts",
        "rendering",
        "CPU seconds, plain / this (least to most)",
        "GFLOP",
        "PSNR, little noise",
        "much",
    ]
    print(f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for contexts in (1, 3):
        with evaluating(model):
            ways = evaluations_of(model, batch, contexts, side)
            seconds: list[list[float]] = []
            for _ in range(rounds):
                row = []
                for _, run in ways:
                    start = time.process_time()
                    run()
                    row.append(time.process_time() - start)
                seconds.append(row)
            exact = ways[0][1]()
            for place, (name, run) in enumerate(ways):
                with FlopCounterMode(display=False) as counted:
                    images = run()
                ratios = sorted(each[0] / each[place] for each in seconds)
                errors = [float((image - true).square().mean()) for image, true in zip(images, exact, strict=True)]
                cells = [contexts, name, f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"]
                cells += [f"{counted.get_total_flops() / 1e9:.0f}"]
                cells += ["" if error == 0 else f"{10 * math.log10(4 / error):.1f} dB" for error in errors]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint")
    parser.add_argument("--root", help="where its data set lies; as its config says if not given")
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is timed")
    parser.add_argument("--rays", type=int, default=8, help="rays along a side of the image, at the paper's sizes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model: Any = dfm_lightning.load(arguments.model)
    scenes = validation_scenes(
        data_of(stored_config(find_checkpoint(arguments.model)), arguments.root), arguments.scenes, "cpu"
    )
    exact = draw(model, scenes, SETTINGS[0])
    titles = ["setting", *(f"estimates, level {share:g}" for share in LEVELS), "samples", "work"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for setting in SETTINGS[1:]:
        found = draw(model, scenes, setting)
        row = [setting.name]
        row += [psnr(*pair) for pair in zip(found.estimates, exact.estimates, strict=True)]
        row += [psnr(found.samples, exact.samples), f"{found.flops / exact.flops:.2f}"]
        print(f"| {' | '.join(row)} |", flush=True)
    renderer = model.forward_model
    renderer.skipped_light, renderer.noisy_fine_samples = 0.0, None
    first = map_tensors(lambda tensor: tensor[:1], scenes[0]._replace(key=()))._replace(key=scenes[0].key[:1])
    time_evaluations(model, first, arguments.rays, arguments.rounds)


if __name__ == "__main__":
    main()
