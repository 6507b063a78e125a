"""Loss of a student of 4 evaluations, at the target and at novel parameters, beside its teacher at 4.

    python benchmarks/distillation.py
    python benchmarks/distillation.py --teacher ffhq_gan_demo --iterations 250 --scenes 32
    dfm fit -c co3d_demo.yaml -c co3d_demo_distilled.yaml --initial_weights co3d_demo
    python benchmarks/distillation.py --teacher co3d_demo --student demo/distilled/last.ckpt --root demo/objects

Without a teacher: trains the model of examples/closed_form, and distils it with `ProgressiveDistillation`. Without
a student: distils the teacher now, in this process. Prints the root mean square distance from the teacher's
converged samples (200 evaluations of DDIM, same noise): mean over scenes (of a trained model: validation scenes)
with 95% intervals; novel views where the data have any.
"""

import argparse
import copy
import sys
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "examples/closed_form"))

from mixture import three_clusters
from problem import LinearObservations, observe_signals
from sampler_errors import data_of
from training import train

import dfm_lightning
from dfm_lightning.callbacks import ProgressiveDistillation
from dfm_lightning.checkpoints.shipped import find_checkpoint
from dfm_lightning.checkpoints.stored_config import stored_config
from dfm_lightning.diffusion import DDIM, PLMS, DPMSolver, LogSNR, Quadratic, Sampler, Spacing, Trailing, UniPC
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.optimizers import AdamWithWarmup
from dfm_lightning.report.statistics import mean_of, paired_difference
from dfm_lightning.sampling import NoiseNames, evaluating
from dfm_lightning.tuning.tuning import validation_scenes
from dfm_lightning.types import Batch

Model = DiffusionWithForwardModel
# The distances at the target and at novel parameters, scene by scene.
Errors = list[list[float]]


def views_of(model: Model, sampler: Sampler, batch: Batch) -> tuple[Tensor, Tensor]:
    """A sample of each scene, at the target and at novel parameters."""
    model.sampler = sampler
    names: NoiseNames = [("distillation", key) for key in batch.key]
    drawn = model.sample(batch.context, batch.target.params, names, model.target_size(batch.context))
    return drawn.observation, model.observe(drawn.signal, batch.novel.params)


def errors(model: Model, sampler: Sampler, batches: list[Batch], converged: list[tuple[Tensor, Tensor]]) -> Errors:
    """A model's distances from converged samples."""
    found: Errors = [[], []]
    for batch, expected in zip(batches, converged, strict=True):
        for each, seen, true in zip(found, views_of(model, sampler, batch), expected, strict=True):
            if seen.shape[1] > 0:
                each += (seen - true).flatten(1).square().mean(dim=1).sqrt().tolist()
    return found


def distilled(
    teacher: Model, sampler: DDIM, teacher_steps: int, iterations: int, data: LightningDataModule, rate: float
) -> Model:
    """A student that is sampled like this."""
    student = copy.deepcopy(teacher).train()
    student.sampler = sampler
    student.optimizer = AdamWithWarmup(learning_rate=rate, warmup_steps=min(50, iterations // 10), decay="cosine")
    trainer = Trainer(
        accelerator="cpu",
        max_steps=iterations,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[ProgressiveDistillation(teacher_steps)],
    )
    trainer.fit(student, data)
    return student.eval()


def rows_of_teacher(
    teacher: Model, spacing: Spacing, temperature: float, batches: list[Batch]
) -> tuple[list[tuple[Tensor, Tensor]], dict[str, Errors]]:
    """Print the teacher's rows; return its converged samples, and its errors with `DDIM` and the least ones."""
    converged = [
        views_of(teacher, DDIM(200, spacing=Trailing(), temperature=temperature), batch) for batch in batches
    ]
    print("| | evaluations | target | novel |\n|---|---|---|---|")
    known = []
    for kind in (DDIM, DPMSolver, UniPC, PLMS):
        sampler = kind(4, spacing=spacing, temperature=temperature)
        known.append(errors(teacher, sampler, batches, converged))
        print(row(f"teacher, `{kind.__name__}`", 4, known[-1]), flush=True)
    return converged, {"DDIM": known[0], "its best": min(known, key=lambda pair: sum(pair[0]))}


def say_student(name: str, steps: int, teachers: dict[str, Errors], found: Errors) -> None:
    """Print a student's row, and what it gains over the teacher with the same sampler and with its best."""
    print(row(name, steps, found))
    for sampler, known in teachers.items():
        gains = [paired_difference(*pair) for pair in zip(known, found, strict=True) if pair[0]]
        text = ", ".join(f"{gain.mean:.4f} [{gain.low:.4f}, {gain.high:.4f}]" for gain in gains)
        print(f"(gain over the teacher with {sampler}, at the target and novel views: {text})", flush=True)


def in_closed_form(iterations: int, scenes: int) -> None:
    """Train, distil and measure the model of examples/closed_form."""
    teacher = train(0)
    seed_everything(1, verbose=False)
    batches = [observe_signals(three_clusters(), scenes, 2)]
    converged, best = rows_of_teacher(teacher, Quadratic(), 1.0, batches)
    for steps, teacher_steps in ((4, 2), (4, 8)):
        sampler = DDIM(steps, spacing=Quadratic())
        student = distilled(teacher, sampler, teacher_steps, iterations, LinearObservations(2), 1e-3)
        found = errors(student, sampler, batches, converged)
        say_student(f"student, {teacher_steps} steps of the teacher for one", steps, best, found)


def of_trained(given: argparse.Namespace) -> None:
    """Measure a student on validation scenes, with its own sampler."""
    teacher, config = dfm_lightning.load(given.teacher), stored_config(find_checkpoint(given.teacher))
    config["data"]["init_args"].pop("cache", None)  # of faces: they are drawn while training
    if given.novel_frames is not None:
        config["data"]["init_args"]["novel_frames"] = given.novel_frames
    data = data_of(config, given.root)
    if given.student is None:
        seed_everything(0, verbose=False)
        sampler = DDIM(4, temperature=teacher.sampler.temperature, spacing=LogSNR(last=100))
        student = distilled(teacher, sampler, given.teacher_steps, given.iterations, data, given.learning_rate)
    else:
        student = dfm_lightning.load(given.student)
        sampler = student.sampler
    batches = validation_scenes(data, given.scenes, "cpu")
    with evaluating(teacher), evaluating(student), torch.no_grad():
        converged, best = rows_of_teacher(teacher, sampler.spacing, sampler.temperature, batches)
        say_student("student", sampler.evaluations, best, errors(student, sampler, batches, converged))


def main() -> None:
    """Distil and measure."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--iterations", type=int, default=1500, help="of each distillation made here")
    arguments.add_argument("--teacher_steps", type=int, default=3, help="of a distillation of the teacher given")
    arguments.add_argument("--learning_rate", type=float, default=5e-4, help="likewise")
    arguments.add_argument("--teacher", help="a shipped model or a checkpoint; the closed form if not given")
    arguments.add_argument("--student", help="a checkpoint of a distillation; made now if not given")
    arguments.add_argument("--novel_frames", type=int, help="of clips, where the teacher's config has none")
    arguments.add_argument("--root", help="where the data set lies; as the teacher's config says if not given")
    arguments.add_argument(
        "--scenes", type=int, default=500, help="of a trained model, at most all for validation"
    )
    given = arguments.parse_args()
    if given.teacher is None:
        in_closed_form(given.iterations, given.scenes)
    else:
        of_trained(given)


def row(name: str, steps: int, found: Errors) -> str:
    """A row of the table."""
    means = [mean_of(values) if values else None for values in found]
    cells = ["–" if m is None else f"{m.mean:.4f} [{m.low:.4f}, {m.high:.4f}]" for m in means]
    return f"| {name} | {steps} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
