"""Loss of a student of 4 evaluations, at the target and at novel parameters, beside its teacher at 4.

    python benchmarks/distillation.py

Trains the model of examples/closed_form, distils it with `ProgressiveDistillation`, and prints the root mean
square distance from the teacher's converged samples (200 evaluations of DDIM, same noise): mean over scenes with
95% intervals.
"""

import argparse
import copy
import sys
from pathlib import Path

import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "examples/closed_form"))

from mixture import three_clusters
from problem import LinearObservations, observe_signals
from training import train

from dfm_lightning.callbacks import ProgressiveDistillation
from dfm_lightning.diffusion import DDIM, PLMS, DPMSolver, Quadratic, Sampler, Trailing, UniPC
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.optimizers import AdamWithWarmup
from dfm_lightning.report.statistics import mean_of, paired_difference
from dfm_lightning.sampling import NoiseNames
from dfm_lightning.types import Batch


def views_of(model: DiffusionWithForwardModel, sampler: Sampler, batch: Batch) -> tuple[Tensor, Tensor]:
    """A sample of each scene, at the target and at novel parameters."""
    model.sampler = sampler
    names: NoiseNames = [("distillation", key) for key in batch.key]
    drawn = model.sample(batch.context, batch.target.params, names, model.target_size(batch.context))
    return drawn.observation, model.observe(drawn.signal, batch.novel.params)


def distilled(
    teacher: DiffusionWithForwardModel, steps: int, teacher_steps: int, iterations: int
) -> DiffusionWithForwardModel:
    """A student of so many evaluations."""
    student = copy.deepcopy(teacher).train()
    student.sampler = DDIM(steps, spacing=Quadratic())
    student.optimizer = AdamWithWarmup(learning_rate=1e-3, warmup_steps=50, decay="cosine")
    trainer = Trainer(
        accelerator="cpu",
        max_steps=iterations,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ProgressiveDistillation(teacher_steps)],
    )
    trainer.fit(student, LinearObservations(2))
    return student.eval()


def main() -> None:
    """Train, distil and measure."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--iterations", type=int, default=1500, help="of each distillation")
    arguments.add_argument("--scenes", type=int, default=500)
    given = arguments.parse_args()
    teacher = train(0)
    seed_everything(1, verbose=False)
    batch = observe_signals(three_clusters(), given.scenes, 2)
    converged = views_of(teacher, DDIM(200, spacing=Trailing()), batch)

    def errors(model: DiffusionWithForwardModel, sampler: Sampler) -> list[list[float]]:
        pairs = zip(views_of(model, sampler, batch), converged, strict=True)
        return [(found - true).flatten(1).square().mean(dim=1).sqrt().tolist() for found, true in pairs]

    print("| | evaluations | target | novel |\n|---|---|---|---|")
    known = {}
    for kind in (DDIM, DPMSolver, UniPC, PLMS):
        known[kind.__name__] = errors(teacher, kind(4, spacing=Quadratic()))
        print(row(f"teacher, `{kind.__name__}`", 4, known[kind.__name__]), flush=True)
    best = min(known.values(), key=lambda pair: sum(pair[1]))
    for steps, teacher_steps in ((4, 2), (4, 8)):
        student = distilled(teacher, steps, teacher_steps, given.iterations)
        found = errors(student, DDIM(steps, spacing=Quadratic()))
        print(row(f"student, {teacher_steps} steps of the teacher for one", steps, found))
        gains = [paired_difference(before, now) for before, now in zip(best, found, strict=True)]
        text = ", ".join(f"{gain.mean:.4f} [{gain.low:.4f}, {gain.high:.4f}]" for gain in gains)
        print(f"(gain over the best of the teacher's: target, novel {text})", flush=True)


def row(name: str, steps: int, found: list[list[float]]) -> str:
    """A row of the table."""
    means = [mean_of(values) for values in found]
    return f"| {name} | {steps} | " + " | ".join(f"{m.mean:.4f} [{m.low:.4f}, {m.high:.4f}]" for m in means) + " |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
