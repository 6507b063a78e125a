"""Train with several seeds, with and without mistakes, and print how the samples compare with the exact posterior.

    python examples/closed_form/measure.py --seeds 1 2 3
    python examples/closed_form/measure.py --seeds 1 2 3 --kind without-novel
    python examples/closed_form/measure.py --seeds 1 2 3 --evaluations 15 8 6
    python examples/closed_form/measure.py --seeds 1 2 3 --guidance 1 3 10

Each row is one training. The share of passed comparisons is of `--repeats` tests, each with new scenes.
"""

import argparse
import copy
import logging
import statistics
import time
import warnings
from collections.abc import Callable

from breakages import (
    LastStepSkipsLevels,
    NoisyLastStep,
    WithoutLastStep,
    level_embedding_of_zeros,
    sampled_by,
    told_the_same_level,
)
from comparison import ALPHA, PERMUTATIONS, Draws, Verdict, draw, judge, relative_spread
from training import ITERATIONS, train

from dfm_lightning.diffusion import ContextGuidance, Quadratic, UniPC
from dfm_lightning.module import DiffusionWithForwardModel

KINDS = ("sound", "without-novel", "without-level")
# What is done to a trained model, by name.
SAMPLING: dict[str, Callable[[DiffusionWithForwardModel], DiffusionWithForwardModel]] = {
    "told the same level": told_the_same_level,
    "last step left out": lambda model: sampled_by(model, WithoutLastStep(model.sampler.steps)),
    "last step noisy": lambda model: sampled_by(model, NoisyLastStep(model.sampler.steps)),
    "last step too long": lambda model: sampled_by(model, LastStepSkipsLevels(model.sampler.steps)),
}


def trained(seed: int, kind: str, iterations: int) -> DiffusionWithForwardModel:
    """A model trained with or without a mistake."""
    if kind == "without-level":
        with level_embedding_of_zeros():
            return train(seed, iterations=iterations)
    return train(seed, novel_weight=0.0 if kind == "without-novel" else 1.0, iterations=iterations)


def guided_by(model: DiffusionWithForwardModel, steps: int) -> DiffusionWithForwardModel:
    """A copy of a model with context guidance of so many gradient steps."""
    guided = copy.deepcopy(model)
    guided.context_guidance = ContextGuidance(steps)
    return guided


def verdicts(model: DiffusionWithForwardModel, seed: int, kind: str, repeats: int) -> list[tuple[Draws, Verdict]]:
    """Draws and comparisons on new scenes each time; the first are those of the test suite."""
    if kind == "without-level":  # a network that was trained so is asked so, too
        with level_embedding_of_zeros():
            return verdicts(model, seed, "sound", repeats)
    drawn = [draw(model, seed + 1000 * number) for number in range(repeats)]
    return [(each, judge(each, PERMUTATIONS)) for each in drawn]


def row(name: str, pairs: list[tuple[Draws, Verdict]], seconds: float) -> str:
    """A line of the table."""
    found = [verdict for _, verdict in pairs]
    first = found[0]
    spread = relative_spread([drawn for drawn, _ in pairs])
    cells = [
        name,
        f"{seconds:.0f}",
        f"{first.energy.p_value:.5f}",
        f"{first.rank_p_value:.5f}",
        f"{first.inconsistency:.1g}",
        "passes" if first.passes else "fails",
        f"{statistics.mean(verdict.energy.deviations for verdict in found):.1f}",
        f"{sum(verdict.passes for verdict in found)}/{len(found)}",
        f"{spread.ratio:.3f} ± {spread.error:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--kind", choices=KINDS, default="sound", help="what is wrong with the training")
    parser.add_argument("--breakages", action="store_true", help="break the sampling of each model, too")
    parser.add_argument(
        "--evaluations", type=int, nargs="*", default=[], help="sample with UniPC on quadratic levels, too"
    )
    parser.add_argument("--guidance", type=int, nargs="*", default=[], help="steps of context guidance, too")
    parser.add_argument("--repeats", type=int, default=20, help="comparisons with each model")
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    print(f"α = {ALPHA:g}, {PERMUTATIONS} permutations\n")
    print("| seed | CPU s | energy p | ranks p | inconsistency | verdict | energy σ | passes | spread |")
    print("|---|---|---|---|---|---|---|---|---|")
    for seed in options.seeds:
        start = time.process_time()
        model = trained(seed, options.kind, options.iterations)
        seconds = time.process_time() - start
        print(row(f"{seed}", verdicts(model, seed, options.kind, options.repeats), seconds), flush=True)
        for number in options.evaluations:
            fast = sampled_by(model, UniPC(number, spacing=Quadratic()))
            found = verdicts(fast, seed, options.kind, options.repeats)
            print(row(f"{seed}, UniPC {number}", found, seconds), flush=True)
        for number in options.guidance:
            found = verdicts(guided_by(model, number), seed, options.kind, options.repeats)
            print(row(f"{seed}, guidance {number}", found, seconds), flush=True)
        for name, broken in SAMPLING.items() if options.breakages else ():
            found = verdicts(broken(model), seed, options.kind, options.repeats)
            print(row(f"{seed}, {name}", found, seconds), flush=True)


if __name__ == "__main__":
    main()
