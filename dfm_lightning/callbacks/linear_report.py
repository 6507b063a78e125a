"""The test report of linear inverse problems."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer

from dfm_lightning.callbacks.evaluation_report import EvaluationReport
from dfm_lightning.callbacks.image_scores import ImageScores
from dfm_lightning.callbacks.output import image_to_uint8, labelled_grid
from dfm_lightning.callbacks.output.layers import MOST_SAMPLES, Layers
from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.callbacks.realism import FAKE, REAL, joint_realism, true_and_sampled
from dfm_lightning.callbacks.report_tables import Scores
from dfm_lightning.callbacks.scene_layers import layers_of_images
from dfm_lightning.callbacks.score_report import ROLE, ScoreReport
from dfm_lightning.callbacks.stored_scores import Arrays
from dfm_lightning.errors import UserError
from dfm_lightning.networks.perceptual import Trunk
from dfm_lightning.ranges import check_at_least
from dfm_lightning.sampling import Predictor
from dfm_lightning.tasks import EvaluatedImage
from dfm_lightning.tasks.linear_scores import pictures_of, score_image

# Roles of the joint scores: of the samples, and of their projections.
IMAGE, PROJECTED = "image", "projected"


class LinearReport(ScoreReport):
    """Score images drawn for linear measurements, on average and for each kind of operator.

    `tasks.linear_scores.score_image` lists the scores; `lpips_mean` is added if LPIPS' weights are available and
    images have three channels. FID and KID compare all samples with the true images ("image"). As "projected" they
    compare x̂ + A†(y − A x̂), samples made consistent with their measurements by the true pseudo-inverse, which is
    the C-FID of InvFusion (Elata et al. 2025). To compare zero-shot solvers and models for other operators, give
    the folders of their tests to `dfm report`.

    Args:
        output: folder to write into.
        lpips_trunk: the network behind LPIPS.
        lpips_weights: torchvision's weights of that network; by default the file of their name in torch's own
            cache. Without them LPIPS is reported as missing.
        inception_weights: torch-fidelity's weights of the network behind FID and KID; by default the file of their
            name in torch's own cache. Without them both are reported as missing.
        sheet_cell: least size of an image on the contact sheets in pixels.
        overwrite: replace scores of samples made with other settings, instead of stopping.
    """

    item = "image"

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

    def prepare(self, trainer: Trainer, model: Predictor) -> None:
        """See `EvaluationReport`."""
        self._images.load()
        self.missing.update(self._images.missing)

    def measured_with(self) -> dict[str, Any]:
        """See `EvaluationReport`."""
        return {"metrics": self._images.description}

    def scenes(self, outputs: Any) -> list[EvaluatedImage]:
        """See `EvaluationReport`."""
        scenes = EvaluationReport.scenes(self, outputs)
        if not all(isinstance(scene, EvaluatedImage) for scene in scenes):
            kind = type(scenes[0]).__name__
            raise UserError(f"LinearReport measures linear inverse problems, got {kind}: use another report")
        return scenes

    def measure(self, scene: EvaluatedImage, device: torch.device) -> dict[str, Scores]:
        """See `EvaluationReport`: the same scores under "all" and under the operator's class."""
        scores = score_image(scene)
        if scene.truth.shape[0] == 3:
            truths = scene.truth.expand_as(scene.samples)
            found = self._images.similarity(scene.samples.to(device), truths.to(device))
            if "lpips" in found:
                scores["lpips_mean"] = float(found["lpips"].mean())
            # Images too small for the metric are noticed during measurement.
            self.missing.update(self._images.missing)
        return {ROLE: scores, scene.operator: scores}

    def sheet(self, scene: EvaluatedImage) -> RGB:
        """See `EvaluationReport`: A†y, the truth, the mean, samples."""
        images = {"measurement": scene.measurement, "true": scene.truth, "mean": scene.mean}
        for number, sample in enumerate(scene.samples[:MOST_SAMPLES]):
            images[f"sample {number + 1}"] = sample
        row = [image_to_uint8(image) for image in images.values()]
        return labelled_grid([row], list(images), [""], self.sheet_cell)

    def pictures(self, scene: EvaluatedImage) -> Layers:
        """See `EvaluationReport`."""
        return layers_of_images(pictures_of(scene))

    def joint_inputs(self, scene: EvaluatedImage, device: torch.device) -> Arrays:
        """See `EvaluationReport`: the features of the true images, the samples and their projections."""
        if scene.truth.shape[0] != 3 or not self._images.has_features:
            return {}
        images = true_and_sampled(IMAGE, scene.truth[None], scene.samples)
        features = self._images.features({**images, FAKE + PROJECTED: scene.projected}, device)
        # The true images are the same for both roles.
        return {**features, REAL + PROJECTED: features[REAL + IMAGE]}

    def joint_scores(self, inputs: Iterator[Arrays]) -> dict[str, Scores]:
        """See `EvaluationReport`: FID and KID of the samples, and of their projections."""
        scores, notes = joint_realism(inputs)
        # Both show the same images, so the scores of all roles mean nothing.
        self.notes.update({name: note for name, note in notes.items() if not name.endswith(f"({ROLE})")})
        return {role: scores[role] for role in (IMAGE, PROJECTED) if role in scores}
