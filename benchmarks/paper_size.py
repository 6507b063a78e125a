"""What the paper's model costs, and what each way of making it cheaper gives: one process, ways in turn.

    python benchmarks/paper_size.py             # on a GPU; without one, a small model of the same parts
    python benchmarks/paper_size.py --full      # the paper's size on a CPU: about an hour on one thread

The model of configs/co3d.yaml (DiT-XL, 64×64, MLPs of width 512, 64 + 64 points, float32) with random weights. The
plain way, which remembers nothing, is the definition. Every other way is compared with it: time, and the largest
difference or PSNR of its image. The noisy image is what a sampler of 50 evaluations reaches four evaluations after
the one that placed the fine points: the last of five that share them.

Everything runs once before it is timed, then in turn, so that other work on the machine slows all alike: ratios
are medians of those within a round. On a CPU times are CPU seconds. Operations are counted by PyTorch; their rate
is compared with that of matrix products of the MLPs' shape, measured here too.
"""

import argparse
import math
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from inverse_graphics import build_model, random_batch, work_of
from machine import Clock, ceilings, half
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Batch, map_tensors

CONFIG = Path(__file__).parents[1] / "configs/co3d.yaml"
# More noise than signal, so that `noisy_fine_samples` counts; a fiftieth of the levels is a step.
FILLED, TIMED = 880, 800
SHARING = 5
EVALUATIONS = 50


class Way(NamedTuple):
    """One way of evaluating the denoiser and observing its signal."""

    name: str
    remembers: bool = True
    shares: bool = False
    noisy: int | None = None
    bf16: bool = False


# The encoder of the small model; everything else is as in the paper.
SMALL = {"width": 192, "depth": 2, "heads": 4}
PLAIN = Way("plain", remembers=False)
REMEMBERED = Way("context remembered")
REMEMBERED_BF16 = Way("context remembered, bf16", bf16=True)
REMEMBERED_BOTH = Way("context remembered, 16 noisy fine samples, bf16", noisy=16, bf16=True)
SHARED = Way("placement shared", shares=True)
SHARED_BF16 = Way("placement shared, bf16", shares=True, bf16=True)
SHARED_BOTH = Way("placement shared, 16 noisy fine samples, bf16", shares=True, noisy=16, bf16=True)
WAYS = [
    PLAIN,
    REMEMBERED,
    Way("context remembered, 16 noisy fine samples", noisy=16),
    REMEMBERED_BF16,
    REMEMBERED_BOTH,
    SHARED,
    SHARED_BF16,
    SHARED_BOTH,
]
# Runs of 50 evaluations, half of them on more noise than signal: how many are of which kind.
PLACED = EVALUATIONS // SHARING
RUNS = {
    "exact: context remembered": {PLAIN: 1, REMEMBERED: EVALUATIONS - 1},
    "placement shared by 5": {PLAIN: 1, REMEMBERED: PLACED - 1, SHARED: EVALUATIONS - PLACED},
    "and bf16": {PLAIN: 1, REMEMBERED_BF16: PLACED - 1, SHARED_BF16: EVALUATIONS - PLACED},
    "and bf16, 16 noisy fine samples": {
        PLAIN: 1,
        REMEMBERED_BF16: PLACED // 2,
        REMEMBERED_BOTH: PLACED - PLACED // 2 - 1,
        SHARED_BF16: (EVALUATIONS - PLACED) // 2,
        SHARED_BOTH: EVALUATIONS - PLACED - (EVALUATIONS - PLACED) // 2,
    },
}


def with_random_zeros(model: nn.Module) -> None:
    """Give weights that training begins with at zero random values: nothing would depend on the images else."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and not layer.weight.any():
            nn.init.normal_(layer.weight, std=0.02)


class Evaluations:
    """Evaluations of a model for one scene, in each of the ways.

    The memory of a precision is filled, and fine points are placed, by an evaluation at the level before.
    """

    def __init__(self, model: InverseGraphics, batch: Batch, device: str) -> None:
        self.model, self.batch, self.device = model, batch, device
        self.noise = torch.randn_like(batch.target.observation)
        self.conditioning: dict[bool, Any] = {}
        self.memories: dict[tuple[bool, int | None], Callable[[Any], Any]] = {}
        self.running: dict[Way, VolumeRendering] = {}

    def prepare(self, way: Way) -> None:
        """Do what comes before the evaluation that is timed."""
        if way.bf16 not in self.conditioning:
            with half(way.bf16, self.device):
                self.conditioning[way.bf16] = self.model.denoiser.condition(
                    self.batch.context, self.batch.target.params
                )
        own = self.model.forward_model
        renderer = VolumeRendering(
            own.near,
            own.far,
            own.coarse_samples,
            own.fine_samples,
            noisy_fine_samples=way.noisy,
            # All that are timed share the places of the one before.
            evaluations_per_placement=10**6 if way.shares else 1,
        ).eval()
        self.running[way] = renderer.in_run().while_noisy()
        # Ways that place fine points themselves need what is known of the coarse ones alone.
        memory = (way.bf16, way.noisy if way.shares else None)
        if way.remembers and memory not in self.memories:
            self.memories[memory] = self.model.denoiser.remembering()
            self.observed(way, FILLED, self.memories[memory])
        elif way.shares:
            self.observed(way, FILLED, self.memories[memory])

    def observed(self, way: Way, level: int, remembering: Callable[[Any], Any] | None) -> Tensor:
        """Evaluate the denoiser once, and observe the signal."""
        levels = torch.full((1,), level, device=self.device)
        noisy = self.model.process.add_noise(self.batch.target.observation, self.noise, levels)
        with half(way.bf16, self.device):
            signal = self.model.denoiser(noisy, levels, self.conditioning[way.bf16])
            signal = signal if remembering is None else remembering(signal)
            return self.running[way](signal, self.batch.target.params).float()

    def evaluate(self, way: Way) -> Tensor:
        """Run the evaluation that is timed."""
        memory = (way.bf16, way.noisy if way.shares else None)
        return self.observed(way, TIMED, self.memories[memory] if way.remembers else None)


class Found(NamedTuple):
    """Measurements of one way: seconds by round, operations, GiB, the image."""

    seconds: list[float]
    flops: int
    peak: float
    image: Tensor


def in_turn(clock: Clock, works: dict[Way, Callable[[], Tensor]], rounds: int) -> dict[Way, Found]:
    """Count and warm up, then time all in turn."""
    found = {}
    for way, work in works.items():
        with FlopCounterMode(display=False) as counted:
            _, peak, image = clock.peak(work)
        found[way] = Found([], counted.get_total_flops(), peak, image)
    for _ in range(rounds):
        for way, work in works.items():
            found[way].seconds.append(clock.seconds(work)[0])
    return found


def print_row(*cells: object) -> None:
    """Print a row of a table in Markdown."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def print_titles(*titles: str) -> None:
    """Begin a table."""
    print_row(*titles)
    print(f"|{'---|' * len(titles)}")


def spread(values: list[float], digits: int = 2) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def error(image: Tensor, exact: Tensor) -> str:
    """The largest difference of images from -1 to 1, or the PSNR if it is more than rounding."""
    most = float((image - exact).abs().max())
    return (
        f"{most:.0e}" if most <= 1e-4 else f"{10 * math.log10(4 / float((image - exact).square().mean())):.1f} dB"
    )


def print_evaluations(found: dict[Way, Found], contexts: int, most: dict[str, float]) -> None:
    """Print what an evaluation takes in each way, and whole runs made of them."""
    plain = found[PLAIN]
    print(f"\n{contexts} context view{'s'[: contexts > 1]}\n")
    print_titles("denoising step", "seconds", "plain / this", "GFLOP", "of products", "peak GiB", "from plain")
    for way, each in found.items():
        seconds = statistics.median(each.seconds)
        rate = each.flops / seconds / most["bf16" if way.bf16 else "float32"]
        print_row(
            way.name,
            spread(each.seconds),
            spread([one / other for one, other in zip(plain.seconds, each.seconds, strict=True)]),
            f"{each.flops / 1e9:.0f}",
            f"{rate:.0%}",
            f"{each.peak:.2f}",
            error(each.image, plain.image),
        )
    print()
    print_titles(f"run of {EVALUATIONS} evaluations", "plain / this")
    for name, kinds in RUNS.items():
        ratios = [
            EVALUATIONS * plain.seconds[place] / sum(n * found[way].seconds[place] for way, n in kinds.items())
            for place in range(len(plain.seconds))
        ]
        print_row(name, spread(ratios))


def measure_others(
    model: InverseGraphics, batch: Batch, clock: Clock, device: str, rounds: int, most: dict[str, float]
) -> None:
    """Print what the estimate, a video frame, and a training iteration take, in float32 and bf16."""
    print()
    print_titles("what", "seconds", "bf16: seconds", "float32 / bf16", "GFLOP", "of products", "peak GiB", "bf16")
    for what in ("context and estimate", "video frame", "training iteration"):
        train = what == "training iteration"
        model.train(train)
        with torch.set_grad_enabled(train):
            work = work_of(what, model, batch)
            seconds: list[list[float]] = [[], []]
            peaks, flops = [0.0, 0.0], 0
            for number in range(rounds + 1):
                for bf16 in (False, True):
                    with half(bf16, device):
                        if number:
                            seconds[bf16].append(clock.seconds(work)[0])
                            continue
                        with FlopCounterMode(display=False) as counted:
                            _, peaks[bf16], _ = clock.peak(work)
                        flops = counted.get_total_flops()
        ratios = [one / other for one, other in zip(*seconds, strict=True)]
        rate = flops / statistics.median(seconds[0]) / most["float32"]
        row = [what, *map(spread, seconds), spread(ratios), f"{flops / 1e9:.0f}", f"{rate:.0%}"]
        print_row(*row, *(f"{peak:.2f}" for peak in peaks))
        model.zero_grad(set_to_none=True)


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda")
    )
    parser.add_argument("--full", action="store_true", help="the paper's size on a CPU too")
    parser.add_argument("--contexts", type=int, nargs="*", default=[1, 3])
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed, after it has run once")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no_others", action="store_true", help="denoising steps alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    full = arguments.full or arguments.device == "cuda"
    size = 64 if full else 16
    model = build_model(CONFIG, checkpointing=arguments.device == "cpu", **({} if full else SMALL))
    with_random_zeros(model)
    model.warm_start_steps = 0
    model.to(arguments.device)
    clock = Clock(arguments.device)
    most = ceilings(clock, arguments.device)
    print(f"{'paper size' if full else 'small model'}, {arguments.device}, torch {torch.__version__}")
    print(
        f"matrix products: {most['float32'] / 1e9:.0f} GFLOP/s in float32, {most['bf16'] / 1e9:.0f} in bf16; ",
        end="",
    )
    print(f"copies: {most['bandwidth'] / 1e9:.1f} GB/s")
    near, far = model.forward_model.near, model.forward_model.far
    for contexts in arguments.contexts:
        batch = map_tensors(
            lambda tensor: tensor.to(arguments.device), random_batch(1, size, near, far, contexts)._replace(key=())
        )._replace(key=("0",))
        model.eval()
        with torch.no_grad():
            evaluations = Evaluations(model, batch, arguments.device)
            for way in WAYS:
                evaluations.prepare(way)
            works = {way: partial(evaluations.evaluate, way) for way in WAYS}
            print_evaluations(in_turn(clock, works, arguments.rounds), contexts, most)
    if not arguments.no_others:
        measure_others(model, batch, clock, arguments.device, arguments.rounds, most)


if __name__ == "__main__":
    main()
