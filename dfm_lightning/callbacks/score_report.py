"""The test report of any problem: the scores that its test returns, scene by scene."""

from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from dfm_lightning.callbacks.evaluation_report import EvaluationReport
from dfm_lightning.callbacks.output.layers import Layers
from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.callbacks.report_tables import Scores
from dfm_lightning.callbacks.scene_layers import are_images, layers_of_images
from dfm_lightning.errors import UserError
from dfm_lightning.scene_scores import ScoresScenes, scores_in

ROLE = "all"


class ScoredScene(NamedTuple):
    """A scene's key, the scores from its test, its pictures by name (see `layers_of_images`), and its group."""

    key: str
    scores: Scores
    pictures: dict[str, Tensor]
    group: str | None = None


class ScoreReport(EvaluationReport):
    """Write the scores that `test_step` returns under "scores", scene by scene, and their averages.

    A problem of your own needs no other report. `dfm report` shows what `test_step` returns under "pictures", by
    scene and name: images [v c h w] in [-1, 1], or [s v c h w] of several samples. If it returns "groups" as well,
    a name for each scene's key (the kind of its measurement, say), scores are averaged by group too.

    Args:
        output: folder to write into.
        overwrite: replace scores of samples made with other settings, instead of stopping.
    """

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """See `EvaluationReport`; scores of an interrupted test count in the logged averages."""
        super().on_test_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
        for key in batch.key:
            if key in self._scores and isinstance(pl_module, ScoresScenes):
                pl_module.scene_scores.add(key, self._scores[key][ROLE])

    def scenes(self, outputs: Any) -> list[Any]:
        """See `EvaluationReport`."""
        if not isinstance(outputs, dict) or "scores" not in outputs:
            raise UserError(
                "ScoreReport needs scores by scene: let test_step give "
                '{"scores": {key: {name: number}}} instead of logging them'
            )
        pictures, groups = outputs.get("pictures", {}), outputs.get("groups", {})
        return [
            ScoredScene(
                key,
                {name: float(value) for name, value in scene.items()},
                pictures.get(key, {}),
                groups.get(key),
            )
            for key, scene in scores_in(outputs).items()
        ]

    def measure(self, scene: Any, device: torch.device) -> dict[str, Scores]:
        """See `EvaluationReport`; the group's scores are those of all once more."""
        return {ROLE: scene.scores} if scene.group is None else {ROLE: scene.scores, scene.group: scene.scores}

    def sheet(self, scene: Any) -> RGB | None:
        """See `EvaluationReport`: none."""
        return None

    def pictures(self, scene: Any) -> Layers | None:
        """See `EvaluationReport`: those that the test returned, if they are images."""
        images = {name: each for name, each in scene.pictures.items() if are_images(each)}
        return layers_of_images(images) if images else None
