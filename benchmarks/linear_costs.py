"""What linear inverse problems cost: an evaluation with and without the operator, an image by every solver.

    python benchmarks/linear_costs.py --threads 1
    python benchmarks/linear_costs.py --threads 1 --config configs/linear_ffhq64.yaml --rounds 3 --most_steps 3

Evaluations of InvFusion, Palette and the unconditional network of a config are timed in turn, in one process, and
given as ratios to the unconditional one's: median, least and most over rounds. Solvers solve one problem each, as
they come, with the config's network; their times are ratios to InvFusion's own sampler. With `--most_steps`, all
make so many steps at most, and their times are scaled to the evaluations of all steps. Weights are random, which
changes no amount of work. Times are CPU time.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import yaml
from torch import Tensor

from dfm_lightning.denoisers import OperatorDenoiser
from dfm_lightning.diffusion import Heun, Karras
from dfm_lightning.diffusion.zero_shot import DAPS, DDNM, DDRM, DDS, DPS, PiGDM, REDDiff, ZeroShotSolver
from dfm_lightning.forward_models.linear import (
    LinearMeasurements,
    Matrices,
    OperatorLaw,
    PatchMasks,
    StridedMotionBlurs,
)
from dfm_lightning.tasks import LinearInverseProblem
from dfm_lightning.types import Batch

NOISE = 0.05
NETWORKS: dict[str, dict[str, Any]] = {
    "unconditional": {"joint": (), "backprojection": False},
    "Palette": {"joint": ()},
    "InvFusion": {},
}
LAWS: dict[str, OperatorLaw] = {"mask": PatchMasks(), "blur": StridedMotionBlurs(), "matrix": Matrices()}
SOLVERS: list[ZeroShotSolver] = [DDRM(), DDNM(), DDS(), PiGDM(), REDDiff(), DPS(), DAPS()]


def built(settings: dict[str, Any], **changes: Any) -> LinearInverseProblem:
    """A model of a config's network and number of Heun's steps, changed."""
    torch.manual_seed(0)
    denoiser = OperatorDenoiser(**{**settings["denoiser"]["init_args"], **changes}).eval()
    steps = settings["sampler"]["init_args"]["steps"]
    return LinearInverseProblem(denoiser, sampler=Heun(steps, spacing=Karras()), draw_batch=1)


def problem(law: OperatorLaw, side: int) -> Batch:
    """One image and its measurement."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, side, side, generator=generator) * 2 - 1
    return LinearMeasurements(law, NOISE).problems(images, torch.zeros(1, dtype=torch.long), ["x"], generator)


def seconds(work: Callable[[], Any]) -> float:
    """CPU time of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def evaluation(model: LinearInverseProblem, batch: Batch) -> Callable[[], Tensor]:
    """An evaluation of a model's denoiser, in the middle of the levels, with what comes before it once."""
    conditioning = model.denoiser.condition(batch.context, batch.target.params)
    level = torch.full((1,), model.process.last_level / 2)
    noisy = torch.randn(1, *batch.target.observation.shape[1:], generator=torch.Generator().manual_seed(1))
    return lambda: model.denoiser(noisy, level, conditioning)


def compare_networks(settings: dict[str, Any], side: int, rounds: int) -> None:
    """Print the evaluations' ratios."""
    print("| network | parameters, million | " + " | ".join(LAWS) + " |\n|---|---|" + "---|" * len(LAWS))
    batches = {name: problem(law, side) for name, law in LAWS.items()}
    models = {name: built(settings, **changes) for name, changes in NETWORKS.items()}
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        for kind, batch in batches.items():
            for name, model in models.items():
                spent = seconds(evaluation(model, batch))
                if number:  # the first round warms up
                    times.setdefault((name, kind), []).append(spent)
    for name, model in models.items():
        cells = []
        for kind in LAWS:
            pairs = zip(times[name, kind], times["unconditional", kind], strict=True)
            ratios = [own / plain for own, plain in pairs]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        size = sum(parameter.numel() for parameter in model.denoiser.parameters()) / 1e6
        print(f"| {name} | {size:.2f} | {' | '.join(cells)} |")
    plain = statistics.median(times["unconditional", "mask"])
    print(f"An evaluation of the unconditional network takes {plain:.4f} s.\n", flush=True)


def shortened(settings: dict[str, Any], most_steps: int | None) -> tuple[dict[str, Any], list[ZeroShotSolver]]:
    """The sampler's settings and the solvers, with so many steps at most."""
    if most_steps is None:
        return settings, SOLVERS
    least = min(most_steps, settings["sampler"]["init_args"]["steps"])
    sampler = {"init_args": {"steps": least}}
    return {**settings, "sampler": sampler}, [type(s)(steps=min(most_steps, s.steps)) for s in SOLVERS]


def compare_solvers(settings: dict[str, Any], side: int, most_steps: int | None) -> None:
    """Print the solvers' ratios."""
    batch = problem(PatchMasks(), side)
    evaluations = built(settings).evaluations
    settings, solvers = shortened(settings, most_steps)
    model = built(settings)
    size = tuple(batch.target.observation.shape[2:])

    def solve(solver: ZeroShotSolver | None) -> float:
        model.solver = solver
        return seconds(lambda: model.sample(batch.context, batch.target.params, [("cost", 0)], size))

    solve(None)
    own = solve(None) * evaluations / model.evaluations
    print("| method | evaluations | time of an image |\n|---|---|---|")
    print(f"| InvFusion, Heun | {evaluations} | 1 ({own:.2f} s) |", flush=True)
    for solver, whole in zip(solvers, SOLVERS, strict=True):
        spent = solve(solver) * whole.evaluations / solver.evaluations
        print(f"| {type(solver).__name__} | {whole.evaluations} | {spent / own:.1f} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/linear_faces_demo.yaml")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--most_steps", type=int, default=None, help="of samplers and solvers; all if not given")
    parser.add_argument("--without_solvers", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with open(given.config, encoding="utf-8") as file:
        config = yaml.safe_load(file)
    settings, side = config["model"]["init_args"], config["data"]["init_args"]["resolution"]
    with torch.no_grad():
        compare_networks(settings, side, given.rounds)
    if not given.without_solvers:
        compare_solvers(settings, side, given.most_steps)


if __name__ == "__main__":
    main()
