"""The report of `dfm test`: scores to JSON and CSV, a contact sheet for each scene, a page to look at."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from dfm_lightning.callbacks.fingerprints import fingerprint, weights_fingerprint
from dfm_lightning.callbacks.output import Picture, Section, write_page, write_png
from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.callbacks.report_tables import (
    SceneScores,
    Scores,
    as_csv,
    as_table,
    average_scores,
    columns_of,
    print_table,
)
from dfm_lightning.errors import UserError
from dfm_lightning.files import file_name, whole_file, write_json, write_text
from dfm_lightning.module import DiffusionWithForwardModel, nothing_is_finished
from dfm_lightning.randomness import user_seed
from dfm_lightning.types import Batch, map_tensors

Arrays = dict[str, np.ndarray]


class TestReport(Callback, ABC):
    """Measures the scenes of `dfm test` and writes report.json, report.csv, index.html and sheets/.

    report.json holds what is needed to have the same numbers again: seed, weights, sampler, number of samples
    and scenes, resolution and the whole config. Scores are written scene by scene (scenes/): an interrupted
    test goes on where it stopped. Under several processes, which share the folder, each scene counts once.

    A problem's report says how a scene is measured (`measure`) and shown (`sheet`), and which scores a person
    looks at first (`shown`). A scene is what the task's `test_step` gives under "scenes": a NamedTuple with a
    `key`. What takes many scenes at once (FID, tests of a distribution) is computed by `together` from what
    `keep` keeps of each scene, which is stored beside its scores.

    Args:
        output: folder to write into.
    """

    __test__ = False  # not a test of pytest's

    shown: ClassVar[tuple[str, ...]]

    def __init__(self, output: str) -> None:
        self.output = Path(output)
        # Scores that cannot be had, and scores to be read with care: the reasons, by name.
        self.missing: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self._made_with: dict[str, Any] = {}
        self._scores: SceneScores = {}
        self._resolution: list[int] = []

    # --- what a problem's report says -------------------------------------------------------------------

    @abstractmethod
    def measure(self, scene: Any, device: torch.device) -> dict[str, Scores]:
        """The scores of one scene by role (of its views, say) and name; one that cannot be had is left out."""

    @abstractmethod
    def sheet(self, scene: Any) -> RGB:
        """A picture of one scene: what was given, what is true, what was sampled."""

    def prepare(self, trainer: Trainer, model: DiffusionWithForwardModel) -> None:
        """Get ready what measuring needs; fills `missing`. Called before the first scene."""

    def measured_with(self) -> dict[str, Any]:
        """What the scores depend on besides the model, the seed and the data, as primitives by name."""
        return {}

    def keep(self, scene: Any, device: torch.device) -> Arrays:
        """What `together` needs of a scene."""
        return {}

    def together(self, kept: Iterator[Arrays]) -> dict[str, Scores]:
        """Scores of all scenes at once, by role and name, from what was kept of each; may fill `notes`."""
        return {}

    # --- Lightning's hooks ------------------------------------------------------------------------------

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare, and let the model leave out what has been measured already."""
        assert isinstance(pl_module, DiffusionWithForwardModel)
        self.missing, self.notes, self._scores = {}, {}, {}
        self.prepare(trainer, pl_module)
        made_with = {
            "seed": user_seed(),
            "weights": weights_fingerprint(pl_module),
            "samples": pl_module.samples,
            **pl_module.settings(),
            **self.measured_with(),
        }
        self._made_with = json.loads(json.dumps(made_with))
        pl_module.is_finished = lambda key, sample: key in self._scores

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Take the scores that an interrupted test has written for the same images."""
        for key, images in images_by_key(batch).items():
            stored = self._read_scene(key)
            if stored.get("made_with") == self._made_with and stored.get("images") == images:
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
        images = images_by_key(batch)
        self._resolution = list(batch.target.observation.shape[-2:])
        for scene in outputs["scenes"]:
            scores = self.measure(scene, pl_module.device)
            kept = self.keep(scene, pl_module.device)
            write_png(self._sheet_file(scene.key), self.sheet(scene))
            if kept:
                with whole_file(self._arrays_file(scene.key)) as aside, aside.open("wb") as file:
                    # (NumPy annotates the names as if one could be `allow_pickle`.)
                    np.savez(file, **kept)  # type: ignore[arg-type]
            # Last: it says that the scene is done.
            content = {"key": scene.key, "images": images[scene.key], "made_with": self._made_with}
            write_json(self._scene_file(scene.key), {**content, "kept": sorted(kept), "scores": scores})
            self._scores[scene.key] = scores

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the report on all scenes of all processes; one without any scene skips all other hooks."""
        if stage != "test":
            return
        assert isinstance(pl_module, DiffusionWithForwardModel)
        pl_module.is_finished = nothing_is_finished
        scenes = merge_scores(gather(self._scores))
        if trainer.is_global_zero and scenes:
            self._write_report(trainer, scenes)

    # --- scene by scene ---------------------------------------------------------------------------------

    def _read_scene(self, key: str) -> dict[str, Any]:
        try:
            stored = json.loads(self._scene_file(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stored if not stored.get("kept") or self._arrays_file(key).exists() else {}

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

    # --- writing ----------------------------------------------------------------------------------------

    def _write_report(self, trainer: Trainer, scenes: SceneScores) -> None:
        settings = {
            **self._made_with,
            "scenes": len(scenes),
            "resolution": self._resolution,
            "processes": trainer.world_size,
            "checkpoint": None if trainer.ckpt_path is None else str(trainer.ckpt_path),
            "config": config_of(trainer),
        }
        average = average_scores(scenes.values())
        together = self.together(self._read_kept(key) for key in scenes)
        report = {
            "average": average,
            "together": together,
            "missing": self.missing,
            "notes": self.notes,
            "settings": settings,
            "scenes": scenes,
        }
        write_json(self.output / "report.json", report)
        write_text(self.output / "report.csv", as_csv(scenes, average, together))
        write_page(self.output / "index.html", "Test", self._page(scenes, average, together))
        print_table(as_table(average, self.shown))
        if together:
            print_table(together_table(together))
        for name, note in self.notes.items():
            print(f"{name}: {note}")
        print(f"test report: {self.output / 'index.html'}")

    def _page(self, scenes: SceneScores, average: dict[str, Scores], together: dict[str, Scores]) -> list[Section]:
        settings = ", ".join(f"{name} {value}" for name, value in self._made_with.items())
        missing = "".join(f" {name} is missing: {why}" for name, why in self.missing.items())
        table = as_table(average, self.shown)
        sections = [Section(f"Average of {len(scenes)} scenes", settings + "." + missing, table=table)]
        if together:
            notes = " ".join(f"{name}: {note}" for name, note in self.notes.items())
            sections.append(Section("All scenes together", notes, table=together_table(together)))
        for key, scores in scenes.items():
            sheet = Picture(self._sheet_file(key).relative_to(self.output), key)
            sections.append(Section(key, figures=[sheet], table=as_table(scores, self.shown)))
        return sections


def together_table(together: dict[str, Scores]) -> list[list[str]]:
    """All scores of all scenes together."""
    return as_table(together, columns_of(list(together.values())))


def images_by_key(batch: Batch) -> dict[str, str]:
    """The fingerprint of each scene's views."""
    views = (batch.context, batch.target, batch.novel)
    return {key: fingerprint(map_tensors(lambda t, i=index: t[i], views)) for index, key in enumerate(batch.key)}


def gather(scores: SceneScores) -> list[SceneScores]:
    """The scores of all processes, on every process, when all have written theirs."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [scores]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, scores)
    return parts


def merge_scores(parts: list[SceneScores]) -> SceneScores:
    """All scenes in the order of their names, each once, however many processes have measured it."""
    merged = {key: scores for part in parts for key, scores in part.items()}
    return dict(sorted(merged.items()))


def config_of(trainer: Trainer) -> dict[str, Any] | None:
    """The config of the run, which the command line gives to a callback that puts it into checkpoints."""
    # (Lightning sets the attribute without declaring it.)
    configs = (getattr(callback, "config", None) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    return next((config for config in configs if isinstance(config, dict)), None)
