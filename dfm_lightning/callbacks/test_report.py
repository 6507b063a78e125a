"""The report of `dfm test`: scores to JSON and CSV, a contact sheet for each scene, a page to look at."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dfm_lightning.callbacks.contact_sheet import contact_sheet
from dfm_lightning.callbacks.fingerprints import fingerprint, weights_fingerprint
from dfm_lightning.callbacks.output import Picture, Section, write_page, write_png
from dfm_lightning.callbacks.scene_scores import Scores, average_scores, score_scene
from dfm_lightning.files import file_name, write_json, write_text
from dfm_lightning.metrics import ImageMetrics
from dfm_lightning.module import DiffusionWithForwardModel, nothing_is_finished
from dfm_lightning.networks.perceptual import Trunk
from dfm_lightning.randomness import user_seed
from dfm_lightning.tasks import EvaluatedScene
from dfm_lightning.types import Batch, map_tensors

SceneScores = dict[str, dict[str, Scores]]  # by scene and role
SHOWN = ("psnr_best", "psnr_mean", "ssim_mean", "lpips_mean", "spread", "estimate_psnr", "repeat_context_psnr",
         "mean_image_psnr")  # fmt: skip


class TestReport(Callback):
    """Measures the scenes of `dfm test` and writes report.json, report.csv, index.html and sheets/.

    report.json holds what is needed to have the same numbers again: seed, weights, sampler, number of samples
    and scenes, resolution and the whole config. Scores are written scene by scene (scenes/): an interrupted
    test goes on where it stopped. Under several processes each scene counts once.

    Args:
        output: folder to write into.
        lpips_trunk: the network behind LPIPS.
        lpips_weights: torchvision's weights of that network; by default the file of their name in torch's own
            cache. Without one LPIPS is reported as missing.
        sheet_cell: size of an image on the contact sheets in pixels, at least.
    """

    __test__ = False  # not a test of pytest's

    def __init__(
        self,
        output: str,
        lpips_trunk: Trunk = "vgg",
        lpips_weights: str | None = None,
        sheet_cell: int = 96,
    ) -> None:
        self.output = Path(output)
        self.lpips_trunk: Trunk = lpips_trunk
        self.lpips_weights = lpips_weights
        self.sheet_cell = sheet_cell
        self._metrics: ImageMetrics | None = None
        self._mean_image: Tensor | None = None
        self._made_with: dict[str, Any] = {}
        self._scores: SceneScores = {}
        self._resolution: list[int] = []

    # --- Lightning's hooks ------------------------------------------------------------------------------

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare the metrics, and let the model leave out what has been measured already."""
        assert isinstance(pl_module, DiffusionWithForwardModel)
        self._metrics = ImageMetrics(self.lpips_trunk, self.lpips_weights)
        mean_image = getattr(trainer.datamodule, "mean_image", None)  # type: ignore[attr-defined]
        self._mean_image = mean_image() if mean_image else None
        made_with = {
            "seed": user_seed(),
            "weights": weights_fingerprint(pl_module),
            "samples": pl_module.samples,
            **pl_module.settings(),
            "metrics": f"lpips {self.lpips_trunk}{', missing' if self._metrics.missing else ''}",
        }
        self._made_with = json.loads(json.dumps(made_with))
        self._scores = {}
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
            self._scores[scene.key] = self._measure(scene, pl_module.device)
            content = {"key": scene.key, "images": images[scene.key], "made_with": self._made_with}
            write_png(self._sheet(scene.key), contact_sheet(scene, self.sheet_cell))
            write_json(self._scene_file(scene.key), {**content, "scores": self._scores[scene.key]})

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the report on all scenes of all processes; one without any scene skips all other hooks."""
        if stage != "test":
            return
        assert isinstance(pl_module, DiffusionWithForwardModel)
        pl_module.is_finished = nothing_is_finished
        scenes = merge_scores(gather(self._scores))
        if trainer.is_global_zero and scenes:
            self._write_report(trainer, scenes)

    # --- measuring --------------------------------------------------------------------------------------

    def _measure(self, scene: EvaluatedScene, device: torch.device) -> dict[str, Scores]:
        assert self._metrics is not None
        return score_scene(map_tensors(lambda t: t.to(device), scene), self._metrics, self._mean_image)

    def _read_scene(self, key: str) -> dict[str, Any]:
        try:
            return json.loads(self._scene_file(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def _scene_file(self, key: str) -> Path:
        return self.output / "scenes" / f"{file_name(key)}.json"

    def _sheet(self, key: str) -> Path:
        return self.output / "sheets" / f"{file_name(key)}.png"

    # --- writing ----------------------------------------------------------------------------------------

    def _write_report(self, trainer: Trainer, scenes: SceneScores) -> None:
        assert self._metrics is not None
        settings = {
            **self._made_with,
            "scenes": len(scenes),
            "resolution": self._resolution,
            "processes": trainer.world_size,
            "checkpoint": None if trainer.ckpt_path is None else str(trainer.ckpt_path),
            "config": config_of(trainer),
        }
        average = average_scores(scenes.values())
        report = {"average": average, "missing": self._metrics.missing, "settings": settings, "scenes": scenes}
        write_json(self.output / "report.json", report)
        write_text(self.output / "report.csv", as_csv(scenes, average))
        write_page(self.output / "index.html", "Test", self._page(scenes, average))
        print_table(average)
        print(f"test report: {self.output / 'index.html'}")

    def _page(self, scenes: SceneScores, average: dict[str, Scores]) -> list[Section]:
        assert self._metrics is not None
        settings = ", ".join(f"{name} {value}" for name, value in self._made_with.items())
        missing = "".join(f" {name} is missing: {why}" for name, why in self._metrics.missing.items())
        sections = [Section(f"Average of {len(scenes)} scenes", settings + "." + missing, table=as_table(average))]
        for key, scores in scenes.items():
            sheet = Picture(self._sheet(key).relative_to(self.output), key)
            sections.append(Section(key, figures=[sheet], table=as_table(scores)))
        return sections


def images_by_key(batch: Batch) -> dict[str, str]:
    """The fingerprint of each scene's views."""
    views = (batch.context, batch.target, batch.novel)
    return {key: fingerprint(map_tensors(lambda t, i=index: t[i], views)) for index, key in enumerate(batch.key)}


def gather(scores: SceneScores) -> list[SceneScores]:
    """The scores of all processes, on every process."""
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
    configs = (getattr(callback, "config", None) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    return next((config for config in configs if isinstance(config, dict)), None)


def columns_of(scores: list[Scores]) -> list[str]:
    """The names of all scores, in the order in which they come first."""
    return list(dict.fromkeys(name for row in scores for name in row))


def as_csv(scenes: SceneScores, average: dict[str, Scores]) -> str:
    """A line for each scene and role of views, and at the end one for each role on average."""
    lines = [(key, role, scores) for key, roles in scenes.items() for role, scores in roles.items()]
    lines += [("average", role, scores) for role, scores in average.items()]
    columns = columns_of([scores for _, _, scores in lines])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scene", "views", *columns])
    for key, role, scores in lines:
        writer.writerow([key, role, *(scores.get(name, "missing") for name in columns)])
    return text.getvalue()


def as_table(roles: dict[str, Scores]) -> list[list[str]]:
    """The scores that a person looks at first, a column for each role of views."""
    rows = [
        [name.replace("_", " "), *(f"{scores[name]:.3f}" if name in scores else "–" for scores in roles.values())]
        for name in SHOWN
    ]
    return [["", *roles], *rows]


def print_table(average: dict[str, Scores]) -> None:
    """Show the average scores on the terminal."""
    head, *rows = as_table(average)
    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
