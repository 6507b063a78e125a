"""What the paper's model costs, and what each way of making it cheaper gives: one process, ways in turn.

    python benchmarks/paper_size.py             # on a GPU; without one, a small model of the same parts
    python benchmarks/paper_size.py --full --rays 16    # the paper's size on a CPU: a sixteenth of the rays

The model of configs/co3d.yaml (DiT-XL, 64×64, MLPs of width 512, 64 + 64 points, float32) with random weights. The
plain way, which remembers nothing, is the definition. Every other way is compared with it: time, and the largest
difference or PSNR of its image. The noisy image is what a sampler of 50 evaluations reaches four evaluations after
the one that placed the fine points: the last of five that share them.

All run in turn, so that other work on the machine slows all alike: ratios are medians of those within a round.
Everything runs once before it is timed. On a CPU times are CPU seconds. With --rays the encoder computes whole
images, but fewer rays are rendered, whose time is multiplied: each takes as long as any other. Operations are
counted by PyTorch; their rate is compared with that of matrix products of the MLPs' shape, measured here too.
"""

import argparse
import math
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from denoising_ways import EVALUATIONS, PLAIN, RUNS, WAYS, Evaluations, Way, some_rays
from inverse_graphics import build_model, random_batch, work_of
from machine import Clock, Found, Run, ceilings, half
from torch import Tensor, nn

from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Batch, map_tensors

CONFIG = Path(__file__).parents[1] / "configs/co3d.yaml"
# The encoder of the small model; everything else is as in the paper.
SMALL = {"width": 192, "depth": 2, "heads": 4}
OTHERS = ["context and estimate", "video frame", "training iteration"]


def with_random_zeros(model: nn.Module) -> None:
    """Give weights that training begins with at zero random values: nothing would depend on the images else."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and not layer.weight.any():
            nn.init.normal_(layer.weight, std=0.02)


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
            "" if each.result is None else error(each.result, plain.result),
        )
    print()
    print_titles(f"run of {EVALUATIONS} evaluations", "plain / this")
    for name, kinds in RUNS.items():
        if not kinds.keys() <= found.keys():
            continue
        ratios = [
            EVALUATIONS * plain.seconds[place] / sum(n * found[way].seconds[place] for way, n in kinds.items())
            for place in range(len(plain.seconds))
        ]
        print_row(name, spread(ratios))


def measure_others(
    model: InverseGraphics, batch: Batch, clock: Clock, arguments: argparse.Namespace, most: dict[str, float]
) -> None:
    """Print what the estimate, a video frame, and a training iteration take, in float32 and bf16."""
    print()
    print_titles("what", "seconds", "bf16: seconds", "float32 / bf16", "GFLOP", "of products", "peak GiB", "bf16")
    camera, frame = some_rays(batch.novel.params, arguments.rays)
    for what in arguments.others:
        train = what == "training iteration"
        model.train(train)
        with torch.set_grad_enabled(train):
            seen = batch._replace(novel=batch.novel._replace(params=camera)) if what == "video frame" else batch
            work = work_of(what, model, seen)
            works = {
                bf16: partial(in_precision, clock, work, bf16, frame if what == "video frame" else 1.0)
                for bf16 in (False, True)
            }
            exact, short = clock.in_turn(works, arguments.rounds).values()
        ratios = [one / other for one, other in zip(exact.seconds, short.seconds, strict=True)]
        rate = exact.flops / statistics.median(exact.seconds) / most["float32"]
        row = [what, spread(exact.seconds), spread(short.seconds), spread(ratios), f"{exact.flops / 1e9:.0f}"]
        print_row(*row, f"{rate:.0%}", f"{exact.peak:.2f}", f"{short.peak:.2f}")
        model.zero_grad(set_to_none=True)


def in_precision(clock: Clock, work: Callable[[], Any], bf16: bool, count: float) -> Run:
    """Do work in half precision, or not: a part that stands for so many."""
    with half(bf16, clock.device):
        return clock.run(work).times(count)._replace(result=None)


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, choices=("cpu", "cuda"))
    parser.add_argument("--full", action="store_true", help="the paper's size on a CPU too")
    parser.add_argument("--rays", type=int, help="rays along a side that are rendered; all if not given")
    parser.add_argument("--contexts", type=int, nargs="*", default=[1, 3])
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed, after it has run once")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ways", nargs="*", help="names of ways beside the plain one; all if not given")
    parser.add_argument("--others", nargs="*", default=OTHERS, choices=OTHERS, metavar="WORK")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    full = arguments.full or arguments.device == "cuda"
    size = 64 if full else 16
    arguments.rays = arguments.rays or size
    model = build_model(CONFIG, checkpointing=arguments.device == "cpu", **({} if full else SMALL))
    with_random_zeros(model)
    model.warm_start_steps = 0
    model.to(arguments.device)
    ways = [way for way in WAYS if arguments.ways is None or way is PLAIN or way.name in arguments.ways]
    clock = Clock(arguments.device)
    most = ceilings(clock)
    print(f"{'paper size' if full else 'small model'}, {arguments.device}, torch {torch.__version__}")
    print(f"matrix products: {most['float32'] / 1e9:.0f} GFLOP/s in float32, {most['bf16'] / 1e9:.0f} in bf16")
    print(f"copies: {most['bandwidth'] / 1e9:.1f} GB/s")
    near, far = model.forward_model.near, model.forward_model.far
    for contexts in arguments.contexts:
        batch = random_batch(1, size, near, far, contexts)
        batch = map_tensors(lambda t: t.to(arguments.device), batch._replace(key=()))._replace(key=batch.key)
        model.eval()
        with torch.no_grad():
            evaluations = Evaluations(model, batch, clock, arguments.rays)
            for way in ways:
                evaluations.prepare(way)
            works = {way: partial(evaluations.observe, way) for way in ways}
            print_evaluations(clock.in_turn(works, arguments.rounds), contexts, most)
    if arguments.others:
        measure_others(model, batch, clock, arguments, most)


if __name__ == "__main__":
    main()
