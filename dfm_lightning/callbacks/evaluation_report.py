"""The report of `dfm test`: scores to JSON and CSV, a contact sheet for each scene, a page to look at."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from dfm_lightning.callbacks.made_with import made_with
from dfm_lightning.callbacks.output import write_png
from dfm_lightning.callbacks.output.layers import Layers, write_layers
from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.callbacks.report_page import REPORT_FILES, Results, sheet_file, write_report
from dfm_lightning.callbacks.report_tables import SceneScores, Scores
from dfm_lightning.callbacks.sketches import Sketch, sketches_by_key
from dfm_lightning.callbacks.stored_scores import Arrays, StoredScores, gather, merge_scores
from dfm_lightning.errors import UserError
from dfm_lightning.files import file_name
from dfm_lightning.interfaces import check_kind
from dfm_lightning.record import Recorded, flat
from dfm_lightning.sampling import Predictor, as_predictor
from dfm_lightning.sampling.plan import Withdraw
from dfm_lightning.scene_scores import ScoresScenes
from dfm_lightning.types import Batch
from dfm_lightning.weights_file import name_of


class EvaluationReport(Recorded, Callback, ABC):
    """Measure the scenes of `dfm test` and write report.json, report.csv, index.html, sheets/ and pictures/.

    report.json holds everything needed to reproduce the numbers: seed, weights, sampler, number of samples and
    scenes, resolution and the whole config. Scores are written scene by scene (scenes/): an interrupted test
    continues where it stopped. If several processes share the folder, each scene counts once. Scores of samples
    made with other settings are never mixed in: the test stops at them. Scenes that were measured in another way
    (with another number of samples, say), or on other data, are measured again.

    A problem's report defines how a scene is measured (`measure`) and drawn (`sheet`), and which scores come first
    (`headline`). A scene is an entry of "scenes" in the result of the task's `test_step`: a NamedTuple with a
    `key`. Scores of all scenes at once (FID, tests of a distribution) are computed by `joint_scores` from the
    `joint_inputs` of each scene, which are stored beside its scores.

    Args:
        output: folder to write into.
        overwrite: replace scores of samples made with other settings, instead of stopping.
    """

    without_effect = frozenset({"output", "overwrite"})

    # Names of the scores that tables show; all if empty.
    headline: ClassVar[tuple[str, ...]] = ()
    # The noun for a scene on the page.
    item: ClassVar[str] = "scene"

    def __init__(self, output: str, overwrite: bool = False) -> None:
        self.output = Path(output)
        self.overwrite = overwrite
        # Scores that cannot be computed, and scores to be read with care: the reasons, by name.
        self.missing: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self._stored = StoredScores(self.output, {}, {})
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
                f"{type(self).__name__} measures scenes, but the test of this model gives none: use another report"
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

    def joint_inputs(self, scene: Any, device: torch.device) -> Arrays:
        """Return the arrays of a scene that `joint_scores` needs, by name."""
        return {}

    def joint_scores(self, inputs: Iterator[Arrays]) -> dict[str, Scores]:
        """Score all scenes at once, by role and name, from the `joint_inputs` of each; may fill `notes`."""
        return {}

    # --- Lightning's hooks ------------------------------------------------------------------------------

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare, and let the model leave out what has already been measured."""
        model = as_predictor(pl_module, type(self).__name__)
        self.missing, self.notes, self._scores = {}, {}, {}
        self.prepare(trainer, model)
        self._evaluations = getattr(getattr(model, "sampler", None), "evaluations", None)
        measured_with = {"samples": model.samples, **flat({"report": self.record()}), **self.measured_with()}
        self._stored = StoredScores(self.output, made_with(trainer, pl_module), measured_with)
        # Scenes are measured again one by one. Meanwhile, no report may mix old and new scores.
        if not self._stored.are_current(self.overwrite) and trainer.is_global_zero:
            for name in REPORT_FILES:
                (self.output / name).unlink(missing_ok=True)
        self._end_run()
        self._withdraw = model.plan.leave_out(lambda key, sample: key in self._scores)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Reuse the scores that an interrupted test has written for the same images."""
        check_kind(batch, Batch)
        for key, data in data_by_key(batch).items():
            scores = self._stored.find(key, data)
            if scores is not None:
                self._scores[key] = scores

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
            inputs = self.joint_inputs(scene, pl_module.device)
            sheet = self.sheet(scene)
            if sheet is not None:
                write_png(sheet_file(self.output, scene.key), sheet)
            pictures = self.pictures(scene)
            if pictures is not None:
                write_layers(self.output / "pictures" / f"{file_name(scene.key)}.png", pictures)
            # Last: it marks the scene as measured.
            self._stored.write(scene.key, data[scene.key], scores, inputs)
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
            write_report(self.output, self._results(trainer, scenes), self.headline)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop leaving out what another run may need."""
        self._end_run()

    def _end_run(self) -> None:
        if self._withdraw is not None:
            self._withdraw()
        self._withdraw = None

    def _results(self, trainer: Trainer, scenes: SceneScores) -> Results:
        record = {
            "scenes": len(scenes),
            "resolution": self._resolution,
            **({} if self._evaluations is None else {"evaluations": self._evaluations}),
            "processes": trainer.world_size,
            "checkpoint": None if trainer.ckpt_path is None else name_of(trainer.ckpt_path),
            "config": config_of(trainer),
        }
        settings = {**self._stored.made_with, **self._stored.measured_with}
        # First: it may add notes.
        joint = self.joint_scores(self._stored.arrays(list(scenes)))
        return Results(scenes, joint, self.missing, self.notes, settings, record, self.item)


def data_by_key(batch: Batch) -> dict[str, Sketch]:
    """Sketch each scene's views and its truth."""
    views = {"context": batch.context, "target": batch.target, "novel": batch.novel}
    return sketches_by_key(batch.key, {**views, "truth": batch.truth})


def config_of(trainer: Trainer) -> dict[str, Any] | None:
    """Return the run's config, which the command line passes to a callback that stores it in checkpoints."""
    # (Lightning sets the attribute without declaring it.)
    configs = (getattr(callback, "config", None) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    return next((config for config in configs if isinstance(config, dict)), None)
