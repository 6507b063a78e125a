"""`dfm tune-sampler`: a sampler for a trained model and a number of evaluations, found on validation scenes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning.pytorch import LightningDataModule
from rich.progress import Progress, TimeRemainingColumn

from dfm_lightning.callbacks.sketches import sketches_by_key
from dfm_lightning.diffusion import Quadratic, UniPC
from dfm_lightning.errors import UserError
from dfm_lightning.files import write_json, write_text
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.randomness import user_seed
from dfm_lightning.ranges import check_at_least
from dfm_lightning.record import contents_of
from dfm_lightning.report.statistics import Estimate, mean_of, paired_difference
from dfm_lightning.sampling import evaluating
from dfm_lightning.tuning.candidates import Candidate, fixed_choices
from dfm_lightning.tuning.converged import errors, problems_of
from dfm_lightning.tuning.search import search
from dfm_lightning.tuning.stored import Stored
from dfm_lightning.types import Batch, map_tensors
from dfm_lightning.wording import counted

# Number of fixed choices that are compared on the scenes that the search has not seen.
_COMPARED = 5


@dataclass
class Tuning:
    """The goal, output and effort of a search.

    Args:
        evaluations: number of evaluations of the denoiser that a sample may take.
        output: folder to write into. A search continues where it was interrupted if the folder holds its results.
        candidates: number of samplers tried beside the fixed choices.
        scenes: number of validation scenes: one half is searched on, the other held out to measure what was found.
        draws: samples for each scene.
        reference_evaluations: evaluations of a converged sample, of UniPC on quadratic levels; at least twice
            `evaluations`.
    """

    evaluations: int = 8
    output: Path = Path("tuned")
    candidates: int = 150
    scenes: int = 16
    draws: int = 1
    reference_evaluations: int = 100

    def __post_init__(self) -> None:
        check_at_least(1, evaluations=self.evaluations, candidates=self.candidates, draws=self.draws)
        check_at_least(2, scenes=self.scenes)
        check_at_least(2 * self.evaluations, reference_evaluations=self.reference_evaluations)


def tune_sampler(
    model: DiffusionWithForwardModel, batches: list[Batch], tuning: Tuning, precision: str = "32-true"
) -> dict[str, Any]:
    """Find a sampler of few evaluations that comes nearer to converged samples than fixed choices do.

    Writes `sampler.yaml`, to be laid over a config, `result.json` with the errors on the scenes held out, and
    `tuning.json` with all that was measured.

    Args:
        model: a trained model.
        batches: validation scenes; the second half of the batches is held out from the search.
        tuning: see `Tuning`.
        precision: what the model is evaluated in, for the record.

    Returns:
        The contents of `result.json`.

    Raises:
        UserError: there are fewer than two scenes, or the folder holds another search.
    """
    evaluations = tuning.evaluations
    names = [key for batch in batches for key in batch.key]
    if len(names) < 2:
        raise UserError(
            f"tuning needs at least 2 validation scenes, one to search on and one held out; got {len(names)}"
        )
    if len(batches) == 1:
        batches = list(rows_of(batches[0]))
    half = len(batches) // 2
    searched = sum(len(batch.key) for batch in batches[:half])
    common: dict[str, Any] = {
        "temperature": model.sampler.temperature,
        "threshold_quantile": model.sampler.threshold_quantile,
    }
    settings = {
        **{name: value for name, value in model.settings().items() if not name.startswith("sampler")},
        **common,
        "evaluations": evaluations,
        "reference_evaluations": tuning.reference_evaluations,
        "draws": tuning.draws,
        "scenes": ", ".join(names),
        "seed": user_seed(),
        "weights": contents_of(dict(model.state_dict())),
        "precision": precision,
    }
    data = {
        name: sketch
        for batch in batches
        for name, sketch in sketches_by_key(batch.key, {"context": batch.context, "target": batch.target}).items()
    }
    reference = UniPC(tuning.reference_evaluations, spacing=Quadratic(), **common)
    try:
        reference.check(model.process)
    except ValueError as error:
        raise UserError(
            f"reference_evaluations {tuning.reference_evaluations} (at least twice the evaluations) are too many: "
            f"{error}"
        ) from error
    stored = Stored(tuning.output, settings, data)
    with evaluating(model), Progress(*Progress.get_default_columns()[:-1], TimeRemainingColumn()) as progress:
        task = progress.add_task("converged samples", total=len(batches))
        problems = list(problems_of(model, batches, tuning.draws))
        converged = []
        for batch, problem in zip(batches, problems, strict=True):
            name = f"{batch.key[0]}-{len(batch.key)}"
            converged.append(stored.sample(name, partial(problem.sampled, reference, model.process)))
            progress.advance(task)

        def measure(candidate: Candidate, held_out: bool = False) -> list[float]:
            part = slice(half, None) if held_out else slice(half)
            sampler = candidate.sampler(common)
            found = stored.errors(
                candidate, held_out, lambda: errors(sampler, model.process, problems[part], converged[part])
            )
            progress.advance(task)
            return found

        fixed = fixed_choices(evaluations, model.process)
        task = progress.add_task("samplers", total=2 * len(fixed) + tuning.candidates)
        ranking = sorted(fixed, key=lambda name: np.mean(measure(fixed[name])))
        best = search(
            [fixed[name] for name in ranking],
            lambda candidate: float(np.mean(measure(candidate))),
            model.process,
            tuning.candidates,
            user_seed(),
        )
        rivals = {name: measure(fixed[name], held_out=True) for name in ranking[:_COMPARED]}
        return _write(
            tuning.output, best, common, measure(best, held_out=True), rivals, len(names) - searched, searched
        )


def rows_of(batch: Batch) -> Iterator[Batch]:
    """Split a batch into its scenes, each a batch of one."""
    for row, key in enumerate(batch.key):
        yield map_tensors(lambda tensor, i=row: tensor[i : i + 1], batch._replace(key=()))._replace(key=[key])


def validation_scenes(data: LightningDataModule, number: int, device: Any) -> list[Batch]:
    """Return the first validation scenes of a data module, in its batches, on a device, as its hooks make them."""
    data.prepare_data()
    data.setup("validate")
    loaders = data.val_dataloader()
    found: list[Batch] = []
    for loader in loaders if isinstance(loaders, list) else [loaders]:
        for loaded in loader:
            ready = data.on_before_batch_transfer(loaded, 0)
            moved = data.transfer_batch_to_device(ready, torch.device(device), 0)
            batch = data.on_after_batch_transfer(moved, 0)
            if not isinstance(batch, Batch):
                raise UserError(f"validation scenes must come as a Batch, but came as a {type(batch).__name__}")
            wanted = min(len(batch.key), number - sum(len(known.key) for known in found))
            if wanted == 0:
                return found
            part = map_tensors(lambda tensor, n=wanted: tensor[:n], batch._replace(key=()))
            found.append(part._replace(key=list(batch.key[:wanted])))
    return found


def _write(
    output: Path,
    best: Candidate,
    common: dict[str, Any],
    found: list[float],
    rivals: dict[str, list[float]],
    held_out: int,
    searched: int,
) -> dict[str, Any]:
    name = min(rivals, key=lambda rival: np.mean(rivals[rival]))
    own, rival, gain = mean_of(found), mean_of(rivals[name]), paired_difference(rivals[name], found)
    lines = [
        "# A sampler that was searched for this model. Lay it over the config: -c CONFIG -c sampler.yaml",
        "# Root mean square distance from converged samples, with 95% intervals:",
        f"# {counted(held_out, 'validation scene')} held out from the search, which used {searched} others.",
        f"#   this sampler         {_text(own)}",
        f"#   {name:<20} {_text(rival)}   (the best fixed choice there)",
        f"#   gain, scene by scene {_text(gain)}",
    ]
    config = {"model": {"init_args": {"sampler": best.config(common)}}}
    write_text(output / "sampler.yaml", "\n".join(lines) + "\n" + yaml.safe_dump(config, sort_keys=False))
    measured = {"fixed": name, "fixed_error": rival._asdict(), "error": own._asdict(), "gain": gain._asdict()}
    result = {"sampler": best.config(common), **measured}
    write_json(output / "result.json", result)
    print("\n".join(line.removeprefix("# ") for line in lines[1:]))
    print(f"sampler: {output / 'sampler.yaml'}")
    return result


def _text(value: Estimate) -> str:
    interval = "" if value.low is None else f" [{value.low:.5f}, {value.high:.5f}]"
    return f"{value.mean:.5f}{interval}"
