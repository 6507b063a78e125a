"""The test report of inverse graphics."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from dfm_lightning.callbacks.contact_sheet import contact_sheet
from dfm_lightning.callbacks.evaluation_report import EvaluationReport
from dfm_lightning.callbacks.image_scores import ImageScores
from dfm_lightning.callbacks.look_scores import compare_looks, looks_of_scene
from dfm_lightning.callbacks.output.layers import Layers
from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.callbacks.realism import joint_realism, true_and_sampled
from dfm_lightning.callbacks.report_tables import Scores
from dfm_lightning.callbacks.scene_layers import layers_of_scene
from dfm_lightning.callbacks.scene_scores import score_scene
from dfm_lightning.callbacks.stored_scores import Arrays
from dfm_lightning.errors import UserError
from dfm_lightning.networks.perceptual import Trunk
from dfm_lightning.ranges import check_at_least
from dfm_lightning.record import contents_of
from dfm_lightning.sampling import Predictor
from dfm_lightning.tasks import EvaluatedScene
from dfm_lightning.types import LookLaw, map_tensors


class SceneReport(EvaluationReport):
    """Score sampled 3D scenes by their views, compared with the deterministic estimate and model-free baselines.

    FID and KID compare the sampled views of all scenes with the true ones: of each role, and of all views but the
    context. On synthetic scenes, the looks of samples where the context does not see are compared with their
    distribution (see `metrics.looks`).

    Args:
        output: folder to write into.
        lpips_trunk: the network behind LPIPS.
        lpips_weights: torchvision's weights of that network; by default the file of their name in torch's own
            cache. Without one LPIPS is reported as missing.
        inception_weights: torch-fidelity's weights of the network behind FID and KID, with the same default.
            Without them both are reported as missing.
        sheet_cell: least size of an image on the contact sheets in pixels.
        overwrite: replace scores of samples made with other settings, instead of stopping.
    """

    headline = (
        "psnr_best", "psnr_mean", "psnr_seen", "mean_psnr", "ssim_mean", "lpips_mean", "spread", "spread_seen",
        "spread_hidden", "distance_error", "estimate_psnr", "repeat_context_psnr", "mean_image_psnr",
    )  # fmt: skip

    def __init__(
        self,
        output: str,
        lpips_trunk: Trunk = "vgg",
        lpips_weights: str | None = None,
        inception_weights: str | None = None,
        sheet_cell: int = 96,
        overwrite: bool = False,
    ) -> None:
        super().__init__(output, overwrite)
        check_at_least(1, sheet_cell=sheet_cell)
        self.sheet_cell = sheet_cell
        self._images = ImageScores(lpips_trunk, lpips_weights, inception_weights)
        self._mean_image: Tensor | None = None
        self._look_law: LookLaw | None = None

    def prepare(self, trainer: Trainer, model: Predictor) -> None:
        """See `EvaluationReport`."""
        self._images.load()
        self.missing.update(self._images.missing)
        # (Lightning sets the attribute without declaring it.)
        data = trainer.datamodule  # type: ignore[attr-defined]
        mean_image = getattr(data, "mean_image", None)
        self._mean_image = mean_image() if mean_image else None
        look_law = getattr(data, "look_law", None)
        self._look_law = look_law() if look_law else None

    def measured_with(self) -> dict[str, Any]:
        """See `EvaluationReport`."""
        mean_image = None if self._mean_image is None else contents_of(self._mean_image)
        law = (
            None
            if self._look_law is None
            else dict(zip(self._look_law.names, self._look_law.probabilities.tolist(), strict=True))
        )
        return {"mean_image": mean_image, "look_law": law, "metrics": self._images.description}

    def measure(self, scene: Any, device: torch.device) -> dict[str, Scores]:
        """See `EvaluationReport` and `score_scene`."""
        if not isinstance(scene, EvaluatedScene):
            raise UserError(f"SceneReport measures 3D scenes, got {type(scene).__name__}: use another report")
        scores = score_scene(map_tensors(lambda t: t.to(device), scene), self._images.similarity, self._mean_image)
        # Images too small for a metric are noticed during measurement.
        self.missing.update(self._images.missing)
        return scores

    def sheet(self, scene: EvaluatedScene) -> RGB:
        """See `EvaluationReport`."""
        return contact_sheet(scene, self.sheet_cell)

    def pictures(self, scene: EvaluatedScene) -> Layers:
        """See `EvaluationReport` and `layers_of_scene`."""
        return layers_of_scene(scene)

    def joint_inputs(self, scene: EvaluatedScene, device: torch.device) -> Arrays:
        """See `EvaluationReport`: the features of true and sampled views by role, and the samples' looks."""
        found: Arrays = {} if self._look_law is None else looks_of_scene(scene, self._look_law)
        for role in dict.fromkeys(role for role in scene.roles if role != "context"):
            views = [view for view, name in enumerate(scene.roles) if name == role]
            images = true_and_sampled(role, scene.truth[views], scene.samples[:, views].flatten(0, 1))
            found |= self._images.features(images, device)
        return found

    def joint_scores(self, inputs: Iterator[Arrays]) -> dict[str, Scores]:
        """See `EvaluationReport`: FID and KID, and the looks of the parts hidden from the context."""
        arrays = list(inputs)
        scores, notes = joint_realism(iter(arrays))
        if self._look_law is not None:
            looks, look_notes = compare_looks(arrays, self._look_law)
            scores, notes = scores | looks, notes | look_notes
        self.notes.update(notes)
        return scores
