"""The test report of GAN inversion."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer

from dfm_lightning.callbacks.code_scores import AttributeReader, score_patch
from dfm_lightning.callbacks.evaluation_report import EvaluationReport
from dfm_lightning.callbacks.image_scores import ImageScores
from dfm_lightning.callbacks.output import image_to_uint8, labelled_grid
from dfm_lightning.callbacks.output.layers import Layers
from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.callbacks.realism import joint_realism, true_and_sampled
from dfm_lightning.callbacks.report_tables import Scores
from dfm_lightning.callbacks.scene_layers import layers_of_patch
from dfm_lightning.callbacks.stored_scores import Arrays
from dfm_lightning.errors import UserError
from dfm_lightning.ranges import check_at_least
from dfm_lightning.sampling import Predictor
from dfm_lightning.tasks import EvaluatedPatch

MOST_SAMPLES = 8


class CodeReport(EvaluationReport):
    """Score sampled codes by their images: consistent with the patch, different elsewhere, realistic.

    `score_patch` lists the scores. FID and KID compare the images of all samples with the true ones.

    Args:
        output: folder to write into.
        attributes: reads attributes from images, for generators whose images have known ones, such as
            `datamodules.synthetic.face_attributes.FaceAttributes` for the demo's drawn faces.
        inception_weights: torch-fidelity's weights of the network behind FID and KID; by default the file of their
            name in torch's own cache. Without them both are reported as missing.
        sheet_cell: least size of an image on the contact sheets in pixels.
        overwrite: replace scores of samples made with other settings, instead of stopping.
    """

    headline = (
        "psnr_best", "psnr_mean", "mean_code_psnr", "spread", "agree",
        "distance_best", "distance_mean", "mean_code_distance",
    )  # fmt: skip

    item = "patch"

    def __init__(
        self,
        output: str,
        attributes: AttributeReader | None = None,
        inception_weights: str | None = None,
        sheet_cell: int = 96,
        overwrite: bool = False,
    ) -> None:
        super().__init__(output, overwrite)
        check_at_least(1, sheet_cell=sheet_cell)
        self.attributes = attributes
        self.sheet_cell = sheet_cell
        self._images = ImageScores(None, None, inception_weights)

    def prepare(self, trainer: Trainer, model: Predictor) -> None:
        """See `EvaluationReport`."""
        self._images.load()
        self.missing.update(self._images.missing)

    def measured_with(self) -> dict[str, Any]:
        """See `EvaluationReport`."""
        reader = None if self.attributes is None else type(self.attributes).__name__
        return {"attributes": reader, "metrics": self._images.description}

    def measure(self, scene: Any, device: torch.device) -> dict[str, Scores]:
        """See `EvaluationReport` and `score_patch`."""
        if not isinstance(scene, EvaluatedPatch):
            raise UserError(f"CodeReport measures sampled codes, got {type(scene).__name__}: use another report")
        return score_patch(scene, self.attributes)

    def sheet(self, scene: EvaluatedPatch) -> RGB:
        """See `EvaluationReport`: the patch, the true image, the mean code's image, samples."""
        images = {"patch": scene.truth * scene.mask, "true": scene.truth, "mean code": scene.mean_image}
        for number, sample in enumerate(scene.samples[:MOST_SAMPLES]):
            images[f"sample {number + 1}"] = sample
        row = [image_to_uint8(image) for image in images.values()]
        return labelled_grid([row], list(images), [""], self.sheet_cell)

    def pictures(self, scene: EvaluatedPatch) -> Layers:
        """See `EvaluationReport` and `layers_of_patch`."""
        return layers_of_patch(scene)

    def joint_inputs(self, scene: EvaluatedPatch, device: torch.device) -> Arrays:
        """See `EvaluationReport`: the features of the true and the sampled images."""
        return self._images.features(true_and_sampled("image", scene.truth[None], scene.samples), device)

    def joint_scores(self, inputs: Iterator[Arrays]) -> dict[str, Scores]:
        """See `EvaluationReport`: FID and KID."""
        scores, notes = joint_realism(inputs)
        self.notes.update(notes)
        return scores
