"""Write predictions: each sample a folder that appears whole, none drawn twice."""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from dfm_lightning.callbacks.made_with import VERSION, MadeWith, is_stale, made_with
from dfm_lightning.callbacks.next_observation import Candidates, write_choice
from dfm_lightning.callbacks.output import Picture, Section, Video, write_page
from dfm_lightning.callbacks.sketches import Sketch, alike, sketches_by_key
from dfm_lightning.errors import UserError
from dfm_lightning.files import file_name, remove_leftovers, whole_folder, write_json
from dfm_lightning.interfaces import check_kind
from dfm_lightning.record import Recorded, flat
from dfm_lightning.sampling import as_predictor
from dfm_lightning.sampling.plan import Withdraw
from dfm_lightning.types import Prediction, Request

MANIFEST = "sample.json"


class PredictionWriter(Recorded, BasePredictionWriter, ABC):
    """Draw the predictions of `dfm predict` one by one, and write each into a folder.

    The folder of a sample, `SCENE/sample_00` and so on, appears once it is fully written, with a `sample.json`
    that records how it was made. Existing samples that were made with the same seed, weights and settings for the
    same context and cameras are not drawn again: an interrupted run continues where it stopped. Settings are all
    constructor arguments of the model, of its parts and of the writer, except those that their classes declare to
    be without effect (see `Recorded`).

    Args:
        output: folder to write into.
        overwrite: replace samples made with other settings, instead of stopping.
    """

    without_effect = frozenset({"output", "overwrite"})

    def __init__(self, output: str, overwrite: bool = False) -> None:
        super().__init__("batch")
        self.output = Path(output)
        self.overwrite = overwrite
        # Whether to write what to observe next, too (`dfm predict --next_observation true`).
        self.chooses_next = False
        self._made_with: MadeWith = {}
        # Key and sample of the existing folders, and the sketch of the request that each answers.
        self._finished: dict[tuple[str, int], Sketch] = {}
        # Folders of samples made with other settings, by key.
        self._stale: dict[str, list[Path]] = {}
        self._asked_for: set[str] = set()
        self._withdraw: Withdraw | None = None

    @abstractmethod
    def write(self, prediction: Prediction, folder: Path) -> None:
        """Write one sample into an empty folder."""

    def figures(self, folder: Path) -> list[Picture | Video]:
        """List the figures of a sample on the page of all predictions; here all pictures outside subfolders."""
        return [Picture(path, path.stem) for path in sorted(folder.glob("*.png"))]

    def overview(self, samples: dict[str, list[Path]]) -> list[Picture | Video]:
        """Draw an overview of all samples, given their folders by scene; one process writes it, at the end."""
        return []

    def candidates(self, folders: list[Path]) -> Candidates | None:
        """Read from the folders of a scene's samples what could be observed next; here that is not known."""
        return None

    # --- Lightning's hooks ------------------------------------------------------------------------------

    # All processes meet in `setup` and `teardown` alone: one without scenes skips the hooks in between.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove what a killed run has left half-written."""
        super().setup(trainer, pl_module, stage)
        if stage == "predict":
            if trainer.is_global_zero:
                remove_leftovers(self.output)
            trainer.strategy.barrier()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find existing samples."""
        model = as_predictor(pl_module, type(self).__name__)
        # (Lightning sets the attribute without declaring it.)
        writers = [type(c).__name__ for c in trainer.callbacks if isinstance(c, PredictionWriter)]  # type: ignore[attr-defined]
        if len(writers) > 1:
            raise UserError(f"predictions can be written only once: give one writer, not {' and '.join(writers)}")
        self._made_with = made_with(trainer, pl_module, **flat({"writer": self.record()}))
        self._stale = {}
        self._finished = dict(self._find_finished())
        self._asked_for = set()
        self._end_run()
        self._withdraw = model.plan.leave_out(lambda key, sample: (key, sample) in self._finished)

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Check that existing samples were made for this context and these parameters."""
        check_kind(batch, Request)
        for key in batch.key:
            if key in self._asked_for:
                raise UserError(f"two requests have the key '{key}': their files would have the same names")
            self._asked_for.add(key)
        for key, request in requests_by_key(batch).items():
            others = [
                draw
                for draw, answered in self._finished.items()
                if draw[0] == key and not alike(answered, request)
            ]
            if others and not self.overwrite:
                raise UserError(
                    f"{self.folder(*others[0])} was made for another context or other cameras: "
                    "choose another output folder, or set overwrite to true"
                )
            for draw in others:
                del self._finished[draw]
            # All of them, even those that no new sample will replace.
            for folder in [*self._stale.pop(key, []), *(self.folder(*draw) for draw in others)]:
                shutil.rmtree(folder)

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Draw and write the pending samples of a batch."""
        requests = requests_by_key(batch)
        # `predict_step` only returns an iterator; its work is done here, in the precision of `predict_step`.
        with trainer.precision_plugin.predict_step_context():
            for sample in self._checked(prediction, pl_module):
                self._write_whole(sample, requests[sample.key])
        if trainer.is_global_zero:
            self._write_index()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Show what all processes have written."""
        if stage != "predict":
            return
        self._end_run()
        trainer.strategy.barrier()
        if trainer.is_global_zero and self._made_with:
            self._write_index(finished=True)
            print(f"predictions: {self.output / 'index.html'}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop leaving out what another run may need."""
        self._end_run()

    def _end_run(self) -> None:
        if self._withdraw is not None:
            self._withdraw()
        self._withdraw = None

    def _checked(self, predictions: Any, pl_module: LightningModule) -> Iterator[Prediction]:
        """Check that `predict_step` returned predictions."""
        model, writer = type(pl_module).__name__, type(self).__name__
        if not isinstance(predictions, Iterable):
            raise UserError(
                f"{writer} writes predictions, but predict_step of {model} gave a {type(predictions).__name__}: "
                "let it return self.predictions(batch)"
            )
        for prediction in predictions:
            if not isinstance(prediction, Prediction):
                raise UserError(
                    f"{writer} writes predictions, but predict_step of {model} gave a "
                    f"{type(prediction).__name__}: let it return self.predictions(batch)"
                )
            yield prediction

    # --- files ------------------------------------------------------------------------------------------

    def folder(self, key: str, sample: int) -> Path:
        """Return the folder of a sample."""
        return self.output / file_name(key) / f"sample_{sample:02}"

    def _write_whole(self, prediction: Prediction, request: Sketch) -> None:
        with whole_folder(self.folder(prediction.key, prediction.sample)) as folder:
            self.write(prediction, folder)
            manifest = {"key": prediction.key, "sample": prediction.sample, "version": VERSION}
            manifest["scores"] = dict(prediction.scores)
            write_json(folder / MANIFEST, {**manifest, "request": request, "made_with": self._made_with})

    def _find_finished(self) -> Iterator[tuple[tuple[str, int], Sketch]]:
        for path in sorted(self.output.glob(f"*/*/{MANIFEST}")):
            manifest = read_manifest(path)
            if is_stale(path.parent, manifest, self._made_with, self.overwrite):
                self._stale.setdefault(manifest["key"], []).append(path.parent)
            else:
                yield (manifest["key"], manifest["sample"]), manifest["request"]

    def _write_index(self, finished: bool = False) -> None:
        samples: dict[str, list[Path]] = {}
        for path in sorted(self.output.glob(f"*/*/{MANIFEST}")):
            manifest = read_manifest(path)
            # Others will be replaced, or belong to a scene that is no longer requested.
            if manifest["made_with"] == self._made_with:
                samples.setdefault(manifest["key"], []).append(path.parent)
        sections = []
        for key, folders in samples.items():
            figures = [
                figure._replace(
                    path=figure.path.relative_to(self.output), caption=f"{as_caption(folder)}: {figure.caption}"
                )
                for folder in folders
                for figure in self.figures(folder)
            ]
            sections.append(Section(key, self._choice(folders) if finished else "", figures))
        if finished and samples:
            overview = [f._replace(path=f.path.relative_to(self.output)) for f in self.overview(samples)]
            if overview:
                sections.insert(0, Section("Overview", figures=overview))
        settings = ", ".join(f"{name} {value}" for name, value in self._made_with.items())
        write_page(self.output / "index.html", "Predictions", [*sections, Section("Settings", settings)])

    def _choice(self, folders: list[Path]) -> str:
        """Choose the next observation of a scene if that is wanted, and say which it is."""
        candidates = self.candidates(folders) if self.chooses_next else None
        return "" if candidates is None else f"Observe next: {write_choice(folders[0].parent, candidates)}"


def as_caption(folder: Path) -> str:
    """Return a reader's name for the sample in a folder."""
    return f"sample {int(folder.name.removeprefix('sample_'))}"


def requests_by_key(request: Request) -> dict[str, Sketch]:
    """Sketch each scene's context and parameters."""
    return sketches_by_key(request.key, {"context": request.context, "params": request.params})


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the `sample.json` of a sample. Raises `UserError` if it is none."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if {"key", "sample", "request", "made_with"} <= set(manifest):
            return manifest
    except (ValueError, TypeError):
        pass
    raise UserError(f"{path} was not written by dfm predict: choose another output folder")
