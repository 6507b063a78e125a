"""The test report of any problem: the scores that its test gives, scene by scene."""

from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer

from dfm_lightning.callbacks.evaluation_report import EvaluationReport
from dfm_lightning.callbacks.report_tables import Scores
from dfm_lightning.errors import UserError
from dfm_lightning.scene_scores import ScoresScenes, scores_in

ROLE = "all"


class ScoredScene(NamedTuple):
    """A scene's key and the scores that its test gave."""

    key: str
    scores: Scores


class ScoreReport(EvaluationReport):
    """Writes down the scores that `test_step` gives under "scores", scene by scene, and their averages.

    For a problem of one's own, which needs no report of its own then. Without pictures.

    Args:
        output: folder to write into.
        overwrite: replace scores of samples that were made with other settings, instead of stopping at them.
    """

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """See `EvaluationReport`; what an interrupted test has written counts in the averages that are logged."""
        super().on_test_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
        for key in batch.key:
            if key in self._scores and isinstance(pl_module, ScoresScenes):
                pl_module.scene_scores.add(key, self._scores[key][ROLE])

    def scenes(self, outputs: Any) -> list[ScoredScene]:
        """See `EvaluationReport`."""
        if not isinstance(outputs, dict) or "scores" not in outputs:
            raise UserError(
                "ScoreReport needs scores by scene: let test_step give "
                '{"scores": {key: {name: number}}} instead of logging them'
            )
        return [
            ScoredScene(key, {name: float(value) for name, value in scene.items()})
            for key, scene in scores_in(outputs).items()
        ]

    def measure(self, scene: ScoredScene, device: torch.device) -> dict[str, Scores]:
        """See `EvaluationReport`."""
        return {ROLE: scene.scores}

    def sheet(self, scene: ScoredScene) -> None:
        """See `EvaluationReport`: none."""
