"""The test report of motion prediction."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from dfm_lightning.callbacks.evaluation_report import EvaluationReport
from dfm_lightning.callbacks.output import image_to_uint8, labelled_grid
from dfm_lightning.callbacks.output.flow import flow_colours
from dfm_lightning.callbacks.output.layers import Layers
from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.callbacks.report_tables import Scores
from dfm_lightning.callbacks.scene_layers import layers_of_motion
from dfm_lightning.callbacks.stored_scores import Arrays
from dfm_lightning.errors import UserError
from dfm_lightning.metrics import ImageMetrics, best_and_mean, spread, vector_spread
from dfm_lightning.metrics.motion import UNDECIDED, direction_shares, end_point_error, sampled_directions
from dfm_lightning.networks.perceptual import Trunk
from dfm_lightning.ranges import check_above, check_at_least
from dfm_lightning.sampling import Predictor
from dfm_lightning.tasks import EvaluatedMotion
from dfm_lightning.types import map_tensors
from dfm_lightning.wording import counted

# More would make the sheet too large to take in.
_MOST_SAMPLES = 8


class MotionReport(EvaluationReport):
    """Score sampled motions by the resulting frames and, for synthetic clips, by the true motion.

    Of the frames, for target and novel ones: PSNR, SSIM and LPIPS of the best of the first few samples and on
    average over all, the share of holes, the spread between samples, and the PSNR of the image itself ("no
    motion"). Of the flow: the spread between samples in pixels and, if the truth is known, the end-point error of
    the best of the first few samples, on average, and of no motion at all. Of all clips together: how often
    samples move in each of the true directions, with standard errors, beside their probabilities.

    Args:
        output: folder to write into.
        best_of: how many samples the best is chosen from.
        lpips_trunk: the network behind LPIPS.
        lpips_weights: torchvision's weights of that network; by default the file of their name in torch's own
            cache. Without one LPIPS is reported as missing.
        sheet_cell: least size of an image on the contact sheets in pixels.
        full_colour: length of the displacements that have full colour on the contact sheets, as a share of the
            image's shorter side.
        overwrite: replace scores of samples made with other settings, instead of stopping.
    """

    headline = (
        "psnr_best", "psnr_mean", "ssim_mean", "lpips_mean", "no_motion_psnr", "spread", "holes",
        "epe_best", "epe_mean", "epe_no_motion", "flow_spread",
    )  # fmt: skip

    item = "clip"

    def __init__(
        self,
        output: str,
        best_of: int = 8,
        lpips_trunk: Trunk = "vgg",
        lpips_weights: str | None = None,
        sheet_cell: int = 96,
        full_colour: float = 0.15,
        overwrite: bool = False,
    ) -> None:
        super().__init__(output, overwrite)
        check_at_least(1, best_of=best_of, sheet_cell=sheet_cell)
        check_above(0, full_colour=full_colour)
        self.best_of = best_of
        self.lpips_trunk: Trunk = lpips_trunk
        self.lpips_weights = lpips_weights
        self.sheet_cell = sheet_cell
        self.full_colour = full_colour
        self._metrics: ImageMetrics | None = None

    def prepare(self, trainer: Trainer, model: Predictor) -> None:
        """See `EvaluationReport`."""
        self._metrics = ImageMetrics(self.lpips_trunk, self.lpips_weights)
        self.missing.update(self._metrics.missing)
        if model.samples < self.best_of:
            self.notes["best"] = f"of {counted(model.samples, 'sample')}, where best_of asks for {self.best_of}"

    def measured_with(self) -> dict[str, Any]:
        """See `EvaluationReport`."""
        missing = ", missing" if "lpips" in self.missing else ""
        return {"metrics": f"lpips {self.lpips_trunk}{missing}"}

    def measure(self, scene: Any, device: torch.device) -> dict[str, Scores]:
        """See `EvaluationReport`."""
        if not isinstance(scene, EvaluatedMotion):
            raise UserError(f"MotionReport measures motions, got {type(scene).__name__}: use another report")
        assert self._metrics is not None
        scores = score_motion(map_tensors(lambda t: t.to(device), scene), self._metrics, self.best_of)
        # Images too small for a metric are noticed during measurement.
        self.missing.update(self._metrics.missing)
        return scores

    def sheet(self, scene: EvaluatedMotion) -> RGB:
        """See `EvaluationReport`: image, true frame and samples; below, the flows, in the wheel's colours."""
        full = self.full_colour * min(scene.image.shape[-2:])
        samples = range(min(_MOST_SAMPLES, len(scene.samples)))
        columns = ["image", "true", *(f"sample {number + 1}" for number in samples)]
        image = image_to_uint8(scene.image)
        rows: list[list[RGB | None]] = [
            [
                image,
                image_to_uint8(scene.truth[frame]),
                *(image_to_uint8(scene.samples[n, frame]) for n in samples),
            ]
            for frame in range(len(scene.truth))
        ]
        true_flow = scene.true_motion.get("flow")
        known = None if true_flow is None else flow_colours(true_flow, full)
        rows.append([None, known, *(flow_colours(scene.flows[number], full) for number in samples)])
        return labelled_grid(rows, columns, [*scene.roles, "flow"], self.sheet_cell)

    def pictures(self, scene: EvaluatedMotion) -> Layers:
        """See `EvaluationReport` and `layers_of_motion`."""
        return layers_of_motion(scene, self.full_colour)

    def joint_inputs(self, scene: EvaluatedMotion, device: torch.device) -> Arrays:
        """See `EvaluationReport`: the directions that the samples of each shape take."""
        if not scene.true_motion:
            return {}
        flow, directions = scene.true_motion["flow"], scene.true_motion["directions"]
        shapes = scene.true_motion["shape"][0]
        choices = [
            sampled_directions(scene.flows, shapes == number, flow, directions)
            for number in range(1, int(shapes.max()) + 1)
            if (shapes == number).any()
        ]
        if not choices:
            return {}
        return {
            "choices": torch.stack(choices).numpy(),
            "directions": directions.numpy(),
            "probabilities": scene.true_motion["probabilities"].numpy(),
        }

    def joint_scores(self, inputs: Iterator[Arrays]) -> dict[str, Scores]:
        """See `EvaluationReport`: how often samples take each direction, by its angle."""
        parts = [arrays for arrays in inputs if arrays]
        if not parts:
            return {}
        choices = torch.from_numpy(np.concatenate([arrays["choices"] for arrays in parts]))
        directions, probabilities = parts[0]["directions"], parts[0]["probabilities"]
        angles = np.rad2deg(np.arctan2(directions[:, 1], directions[:, 0])).round() % 360
        truth = {f"{angle:.0f}°": (n, float(probabilities[n])) for n, angle in enumerate(angles)}
        self.notes["direction"] = (
            f"share of {counted(choices.shape[1], 'sample')} of each of {counted(len(choices), 'shape')}, "
            "on average ± standard error, and of the shapes with the least and the greatest; undecided ones go "
            "less than half the true way"
        )
        return {
            name: _named(choices, number, probability)
            for name, (number, probability) in {**truth, "undecided": (UNDECIDED, 0.0)}.items()
        }


def score_motion(scene: EvaluatedMotion, metrics: ImageMetrics, best_of: int) -> dict[str, Scores]:
    """Score a clip by the role of its frames; the scores of the flow are among the target's."""
    scores = {role: _frame_scores(scene, role, metrics, best_of) for role in dict.fromkeys(scene.roles)}
    flow_scores: Scores = {}
    if len(scene.flows) > 1:
        flow_scores["flow_spread"] = vector_spread(scene.flows).mean().item()
    if scene.true_motion:
        truth = scene.true_motion["flow"]
        errors = end_point_error(scene.flows, truth)
        still = end_point_error(torch.zeros_like(truth)[None], truth)
        flow_scores |= {
            "epe_best": errors[:best_of].min().item(),
            "epe_mean": errors.mean().item(),
            "epe_no_motion": still.item(),
        }
    return {**scores, "target": scores["target"] | flow_scores}


def _frame_scores(scene: EvaluatedMotion, role: str, metrics: ImageMetrics, best_of: int) -> Scores:
    frames = [frame for frame, name in enumerate(scene.roles) if name == role]
    truth, samples = scene.truth[frames], scene.samples[:, frames]
    each = metrics(samples.flatten(0, 1), truth.repeat(len(samples), 1, 1, 1))
    scores: Scores = {}
    for metric, values in each.items():
        by_sample = values.unflatten(0, samples.shape[:2])
        scores[f"{metric}_best"] = best_and_mean(metric, by_sample[:best_of]).best
        scores[f"{metric}_mean"] = best_and_mean(metric, by_sample).mean
    still = metrics(scene.image.expand_as(truth), truth)
    scores |= {f"no_motion_{metric}": values.double().mean().item() for metric, values in still.items()}
    scores["holes"] = (1 - scene.coverage[:, frames]).double().mean().item()
    if len(samples) > 1:
        scores["spread"] = spread(samples).double().mean().item()
    return scores


def _named(choices: Tensor, direction: int, probability: float) -> Scores:
    share = direction_shares(choices, direction)
    return {
        "share": share.mean,
        "standard_error": share.standard_error,
        "least": share.least,
        "greatest": share.greatest,
        "true_probability": probability,
    }
