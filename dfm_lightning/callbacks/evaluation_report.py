"""The report of `dfm test`: scores to JSON and CSV, a contact sheet for each scene, a page to look at."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from dfm_lightning.callbacks.made_with import VERSION, MadeWith, is_stale, made_with
from dfm_lightning.callbacks.output import Picture, Section, Video, write_page, write_png
from dfm_lightning.callbacks.output.layers import Layers, write_layers
from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.callbacks.report_tables import (
    SceneScores,
    Scores,
    as_csv,
    as_table,
    average_scores,
    columns_of,
    print_table,
    standard_errors,
)
from dfm_lightning.callbacks.sketches import Sketch, alike, sketches_by_key
from dfm_lightning.errors import UserError
from dfm_lightning.files import file_name, whole_file, write_json, write_text
from dfm_lightning.interfaces import check_kind
from dfm_lightning.record import Recorded, flat
from dfm_lightning.sampling import Predictor, as_predictor
from dfm_lightning.sampling.plan import Withdraw
from dfm_lightning.scene_scores import ScoresScenes
from dfm_lightning.types import Batch
from dfm_lightning.weights_file import name_of

Arrays = dict[str, np.ndarray]

REPORT_FILES = ("report.json", "report.csv", "index.html")


class EvaluationReport(Recorded, Callback, ABC):
    """Measure the scenes of `dfm test` and write report.json, report.csv, index.html, sheets/ and pictures/.

    report.json holds everything needed to reproduce the numbers: seed, weights, sampler, number of samples and
    scenes, resolution and the whole config. Scores are written scene by scene (scenes/): an interrupted test
    continues where it stopped. With several processes, which share the folder, each scene counts once. Scores of
    samples made with other settings are never mixed in: the test stops at them. Scenes measured otherwise (with
    another number of samples, say), or on other data, are measured again.

    A problem's report defines how a scene is measured (`measure`) and shown (`sheet`), and which scores come first
    (`headline`). A scene is an entry of "scenes" in the result of the task's `test_step`: a NamedTuple with a
    `key`. Scores of many scenes at once (FID, tests of a distribution) are computed by `together` from what `keep`
    returns for each scene, which is stored beside its scores.

    Args:
        output: folder to write into.
        overwrite: replace scores of samples made with other settings, instead of stopping.
    """

    without_effect = frozenset({"output", "overwrite"})

    # Empty for all scores.
    headline: ClassVar[tuple[str, ...]] = ()

    def __init__(self, output: str, overwrite: bool = False) -> None:
        self.output = Path(output)
        self.overwrite = overwrite
        # Scores that cannot be computed, and scores to be read with care: the reasons, by name.
        self.missing: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self._made_with: MadeWith = {}
        self._measured_with: dict[str, Any] = {}
        self._scores: SceneScores = {}
        self._resolution: list[int] = []
        self._evaluations: int | None = None
        self._withdraw: Withdraw | None = None

    # --- what a problem's report says -------------------------------------------------------------------

    @abstractmethod
    def measure(self, scene: Any, device: torch.device) -> dict[str, Scores]:
        """Score one scene, by role (of its views, say) and name; leave out scores that cannot be computed."""

    def scenes(self, outputs: Any) -> list[Any]:
        """Return the scenes in the result of `test_step`: NamedTuples with a `key`."""
        if not isinstance(outputs, dict) or "scenes" not in outputs:
            raise UserError(
                f"{type(self).__name__} measures what this model's test does not give: use another report"
            )
        return outputs["scenes"]

    @abstractmethod
    def sheet(self, scene: Any) -> RGB | None:
        """Draw one scene: context, truth, samples; or return None."""

    def pictures(self, scene: Any) -> Layers | None:
        """Return the same as separate pictures, which `dfm report` shows beside those of other runs; or None."""
        return None

    def prepare(self, trainer: Trainer, model: Predictor) -> None:
        """Prepare for measuring, and fill `missing`. Called before the first scene."""

    def measured_with(self) -> dict[str, Any]:
        """Return what the scores depend on besides the samples, the data and the report's constructor arguments.

        The values are primitives by name.
        """
        return {}

    def keep(self, scene: Any, device: torch.device) -> Arrays:
        """Return what `together` needs of a scene."""
        return {}

    def together(self, kept: Iterator[Arrays]) -> dict[str, Scores]:
        """Score all scenes at once, by role and name, from what was kept of each; may fill `notes`."""
        return {}

    # --- Lightning's hooks ------------------------------------------------------------------------------

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare, and let the model leave out what has already been measured."""
        model = as_predictor(pl_module, type(self).__name__)
        self.missing, self.notes, self._scores = {}, {}, {}
        self.prepare(trainer, model)
        self._made_with = made_with(trainer, pl_module)
        self._evaluations = getattr(getattr(model, "sampler", None), "evaluations", None)
        measured_with = {"samples": model.samples, **flat({"report": self.record()}), **self.measured_with()}
        self._measured_with = json.loads(json.dumps(measured_with))
        self._leave_out_stale(trainer)
        self._end_run()
        self._withdraw = model.plan.leave_out(lambda key, sample: key in self._scores)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Reuse the scores that an interrupted test has written for the same images."""
        check_kind(batch, Batch)
        for key, data in data_by_key(batch).items():
            stored = self._read_scene(key)
            same = self._is_taken(stored) and alike(stored["data"], data)
            if same and (not stored["kept"] or self._arrays_file(key).exists()):
                self._scores[key] = stored["scores"]

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure the scenes of a batch."""
        data = data_by_key(batch)
        self._resolution = list(batch.target.observation.shape[-2:])
        for scene in self.scenes(outputs):
            scores = self.measure(scene, pl_module.device)
            kept = self.keep(scene, pl_module.device)
            sheet = self.sheet(scene)
            if sheet is not None:
                write_png(self._sheet_file(scene.key), sheet)
            pictures = self.pictures(scene)
            if pictures is not None:
                write_layers(self._pictures_file(scene.key), pictures)
            if kept:
                with whole_file(self._arrays_file(scene.key)) as aside, aside.open("wb") as file:
                    # (NumPy annotates the names as if one could be `allow_pickle`.)
                    np.savez(file, **kept)  # type: ignore[arg-type]
            # Last: it marks the scene as done.
            content = {
                "key": scene.key,
                "version": VERSION,
                "data": data[scene.key],
                "made_with": self._made_with,
                "measured_with": self._measured_with,
                "kept": sorted(kept),
                "scores": scores,
            }
            write_json(self._scene_file(scene.key), content)
            self._scores[scene.key] = scores

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the report on all scenes of all processes; a process without scenes skips all other hooks."""
        if stage != "test":
            return
        self._end_run()
        # The model's scores come first: a process without scenes has not shared them yet.
        if isinstance(pl_module, ScoresScenes):
            pl_module.scene_scores.gathered()
        scenes = merge_scores(gather(self._scores))
        if trainer.is_global_zero and scenes:
            self._write_report(trainer, scenes)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop leaving out what another run may need."""
        self._end_run()

    def _end_run(self) -> None:
        if self._withdraw is not None:
            self._withdraw()
        self._withdraw = None

    # --- scene by scene ---------------------------------------------------------------------------------

    def _leave_out_stale(self, trainer: Trainer) -> None:
        """Stop at scores made with other settings, or discard the report that was made from them."""
        found = [(path, read_scene(path)) for path in sorted((self.output / "scenes").glob("*.json"))]
        stale = [is_stale(path, stored, self._made_with, self.overwrite) for path, stored in found if stored]
        # Scenes are measured again one by one: meanwhile, no report may mix both.
        if trainer.is_global_zero and (any(stale) or not all(self._is_taken(stored) for _, stored in found)):
            for name in REPORT_FILES:
                (self.output / name).unlink(missing_ok=True)

    def _is_taken(self, stored: dict[str, Any]) -> bool:
        """Tell whether a scene's stored scores were made and measured as they would be now."""
        now = {"version": VERSION, "made_with": self._made_with, "measured_with": self._measured_with}
        return all(stored.get(name) == value for name, value in now.items())

    def _read_scene(self, key: str) -> dict[str, Any]:
        return read_scene(self._scene_file(key))

    def _read_kept(self, key: str) -> Arrays:
        path = self._arrays_file(key)
        if not path.exists():
            return {}
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path} cannot be read ({error}): remove it and test again") from error

    def _scene_file(self, key: str) -> Path:
        return self.output / "scenes" / f"{file_name(key)}.json"

    def _arrays_file(self, key: str) -> Path:
        return self.output / "scenes" / f"{file_name(key)}.npz"

    def _sheet_file(self, key: str) -> Path:
        return self.output / "sheets" / f"{file_name(key)}.png"

    def _pictures_file(self, key: str) -> Path:
        return self.output / "pictures" / f"{file_name(key)}.png"

    # --- writing ----------------------------------------------------------------------------------------

    def _write_report(self, trainer: Trainer, scenes: SceneScores) -> None:
        settings = {
            **self._made_with,
            **self._measured_with,
            "scenes": len(scenes),
            "resolution": self._resolution,
            **({} if self._evaluations is None else {"evaluations": self._evaluations}),
            "processes": trainer.world_size,
            "checkpoint": None if trainer.ckpt_path is None else name_of(trainer.ckpt_path),
            "config": config_of(trainer),
        }
        average = average_scores(scenes.values())
        joint = self.together(self._read_kept(key) for key in scenes)
        report = {
            "average": average,
            "standard_error": standard_errors(scenes.values()),
            "together": joint,
            "missing": self.missing,
            "notes": self.notes,
            "settings": settings,
            "scenes": scenes,
        }
        as_json, as_lines, page = (self.output / name for name in REPORT_FILES)
        write_json(as_json, report)
        write_text(as_lines, as_csv(scenes, average, joint))
        write_page(page, "Test", self._page(scenes, average, joint))
        print_table(self._table(average, average, standard_errors(scenes.values())))
        if joint:
            print_table(joint_table(joint))
        for name, note in self.notes.items():
            print(f"{name}: {note}")
        print(f"test report: {page}")

    def _page(self, scenes: SceneScores, average: dict[str, Scores], joint: dict[str, Scores]) -> list[Section]:
        used = {**self._made_with, **self._measured_with}
        settings = ", ".join(f"{name} {value}" for name, value in used.items())
        missing = "".join(f" {name} is missing: {why}" for name, why in self.missing.items())
        table = self._table(average, average, standard_errors(scenes.values()))
        sections = [Section(f"Average of {len(scenes)} scenes", settings + "." + missing, table=table)]
        if joint:
            notes = " ".join(f"{name}: {note}" for name, note in self.notes.items())
            sections.append(Section("All scenes together", notes, table=joint_table(joint)))
        for key, scores in scenes.items():
            path = self._sheet_file(key)
            sheets: list[Picture | Video] = [Picture(path.relative_to(self.output), key)] if path.exists() else []
            sections.append(Section(key, figures=sheets, table=self._table(scores, average)))
        return sections

    def _table(
        self, scores: dict[str, Scores], average: dict[str, Scores], errors: dict[str, Scores] | None = None
    ) -> list[list[str]]:
        return as_table(scores, self.headline or columns_of(list(average.values())), errors)


def joint_table(joint: dict[str, Scores]) -> list[list[str]]:
    """Collect all scores of all scenes together."""
    return as_table(joint, columns_of(list(joint.values())))


def data_by_key(batch: Batch) -> dict[str, Sketch]:
    """Sketch each scene's views and its truth."""
    views = {"context": batch.context, "target": batch.target, "novel": batch.novel}
    return sketches_by_key(batch.key, {**views, "truth": batch.truth})


def read_scene(path: Path) -> dict[str, Any]:
    """Read a scene's stored scores; nothing if the file is missing or unreadable."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def gather(scores: SceneScores) -> list[SceneScores]:
    """Gather the scores of all processes on every process, once all have written theirs."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [scores]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, scores)
    return parts


def merge_scores(parts: list[SceneScores]) -> SceneScores:
    """Merge all scenes, sorted by name, each once, however many processes have measured it."""
    merged = {key: scores for part in parts for key, scores in part.items()}
    return dict(sorted(merged.items()))


def config_of(trainer: Trainer) -> dict[str, Any] | None:
    """Return the run's config, which the command line passes to a callback that stores it in checkpoints."""
    # (Lightning sets the attribute without declaring it.)
    configs = (getattr(callback, "config", None) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    return next((config for config in configs if isinstance(config, dict)), None)
