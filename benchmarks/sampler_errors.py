"""Distance of samplers from the converged samples of a trained model, by number of evaluations: tables for docs.

    python benchmarks/sampler_errors.py co3d_demo --root demo/objects
    python benchmarks/sampler_errors.py vimeo90k_demo --root demo/motion/clips
    python benchmarks/sampler_errors.py ffhq_gan_demo
    python benchmarks/sampler_errors.py closed_form

Same noise for all; the converged sample is that of 200 evaluations of DDIM. Prints the root mean square error at
the target (images in [-1, 1]), mean over validation scenes and half of its 95% interval, as a table in Markdown.
Bold: nearer than DDIM with 50 evaluations on trailing levels, scene by scene, with 95% confidence.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, seed_everything

import dfm_lightning
from dfm_lightning import diffusion
from dfm_lightning.checkpoints.shipped import find_checkpoint
from dfm_lightning.checkpoints.stored_config import stored_config
from dfm_lightning.cli.parser import DfmParser
from dfm_lightning.cli.parts import import_parts
from dfm_lightning.diffusion import DDIM, Sampler, Trailing
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.report.statistics import mean_of, paired_difference
from dfm_lightning.sampling import evaluating
from dfm_lightning.tuning.converged import Problem, errors, problems_of
from dfm_lightning.tuning.tuning import validation_scenes
from dfm_lightning.types import Batch

ROWS = [
    ("DDIM()", "Trailing()"),
    ("UniPC()", "Trailing()"),
    ("DDIM()", "Quadratic()"),
    ("DPMSolver()", "Quadratic()"),
    ("UniPC()", "Quadratic()"),
    ("UniPC(order=3)", "Quadratic()"),
    ("DEIS()", "Quadratic()"),
    ("PLMS()", "Quadratic()"),
    ("GHVB(order=3)", "Quadratic()"),
    ("UniPC()", "LogSNR(last=4)"),
    ("PLMS()", "Even()"),
    ("PLMS()", "LogSNR(last=4)"),
    ("UniPC(order=3)", "LogSNR(last=4)"),
    ("UniPC()", "AlignYourSteps()"),
    ("PLMS()", "AlignYourSteps()"),
    ("UniPC()", "Karras()"),
    ("PLMS()", "Leading()"),
    ("DPMSolver(order=3)", "Quadratic()"),
    ("DPMSolverSinglestep()", "Quadratic()"),
    ("DEIS(order=3)", "Quadratic()"),
    ("HeavyBall()", "Quadratic()"),
    ("GHVB(order=3)", "LogSNR(last=4)"),
]


def data_of(config: dict[str, Any], root: str | None) -> LightningDataModule:
    """The data module that a model's config describes, of data at another place if one is given."""
    import_parts()
    parser = DfmParser()
    parser.add_subclass_arguments(LightningDataModule, "data", required=True)
    described = config["data"]
    described["init_args"].update({"workers": 0} if root is None else {"workers": 0, "root": root})
    data: LightningDataModule = parser.instantiate_classes(parser.parse_object({"data": described})).data
    return data


def closed_form(count: int) -> tuple[DiffusionWithForwardModel, list[Batch]]:
    """The model of examples/closed_form, trained now, and scenes of it."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples/closed_form"))
    from mixture import three_clusters
    from problem import observe_signals
    from training import train

    model = train(0)
    seed_everything(1, verbose=False)
    return model, [observe_signals(three_clusters(), count, 2)]


def sampler_of(kind: str, spacing: str, steps: int, model: DiffusionWithForwardModel) -> Sampler:
    """A sampler from a row of the table, with the temperature of the model's own."""
    name, _, settings = kind.partition("(")
    given = {**vars(diffusion), "steps": steps, "temperature": model.sampler.temperature}
    text = f"{name}(steps, temperature=temperature, spacing={spacing}, {settings}"
    return eval(text, given)


def main() -> None:
    """Measure, and print the table row by row."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", help="a shipped model, a checkpoint, or closed_form")
    arguments.add_argument("--root", help="where its data set lies; as its config says if not given")
    arguments.add_argument("--scenes", type=int, default=16)
    arguments.add_argument("--rows", type=int, nargs="*", help="numbers of the rows to measure; all if not given")
    arguments.add_argument("--evaluations", type=int, nargs="*", default=[4, 6, 8, 10, 15, 20, 50])
    given = arguments.parse_args()
    if given.model == "closed_form":
        model, scenes = closed_form(given.scenes)
    else:
        model = dfm_lightning.load(given.model)
        data = data_of(stored_config(find_checkpoint(given.model)), given.root)
        scenes = validation_scenes(data, given.scenes, "cpu")
    with evaluating(model):
        measure(model, list(problems_of(model, scenes)), given.rows, given.evaluations)


def measure(
    model: DiffusionWithForwardModel, problems: list[Problem], rows: list[int] | None, evaluations: list[int]
) -> None:
    """Print the table of one model."""
    converged = [
        problem.sampled(sampler_of("DDIM()", "Trailing()", 200, model), model.process) for problem in problems
    ]
    known = DDIM(50, temperature=model.sampler.temperature, spacing=Trailing())
    today = errors(known, model.process, problems, converged)
    found = mean_of(today)
    interval = f"[{found.low:.4f}, {found.high:.4f}]"
    print(f"{len(today)} scenes; DDIM, 50 evaluations, trailing levels: {found.mean:.4f} {interval}")
    print(
        f"| sampler | spacing | {' | '.join(map(str, evaluations))} |\n|{'---|' * (len(evaluations) + 2)}",
        flush=True,
    )
    for number, (kind, spacing) in enumerate(ROWS):
        if rows and number not in rows:
            continue
        cells = []
        for steps in evaluations:
            each = errors(sampler_of(kind, spacing, steps, model), model.process, problems, converged)
            mean, difference = mean_of(each), paired_difference(each, today)
            half = 0.0 if mean.low is None or mean.high is None else (mean.high - mean.low) / 2
            nearer = difference.excludes_zero and difference.mean < 0
            cells.append(f"{'**' if nearer else ''}{mean.mean:.4f}{'**' if nearer else ''} ± {half:.4f}")
        print(f"| `{kind}` | `{spacing}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
