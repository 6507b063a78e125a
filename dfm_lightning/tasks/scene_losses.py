"""The losses of scenes beside the squared errors of rendered views."""

from torch import Tensor

from dfm_lightning.denoisers.scene_denoiser import EstimatingConditioning
from dfm_lightning.losses import edge_aware_smoothness, ray_distortion
from dfm_lightning.module import DenoisedBatch
from dfm_lightning.tasks.objectives import SceneObjective
from dfm_lightning.types import Batch, LossTerm


def scene_losses(
    denoised: DenoisedBatch, objective: SceneObjective, near: float, far: float
) -> dict[str, LossTerm]:
    """Compute the losses of an objective by name, except those of weight 0.

    Args:
        denoised: inputs and outputs of a training evaluation.
        objective: weights and settings.
        near: where rays begin, in scene units.
        far: where rays end.
    """
    terms = {}
    details = denoised.observed.auxiliary
    # Without a context there is nothing to estimate from.
    if objective.estimate_weight > 0 and not denoised.context_dropped:
        error = estimate_error(denoised.batch, denoised.conditioning)
        terms["estimate"] = LossTerm(error, objective.estimate_weight)
    if objective.proposal_weight > 0:
        error = (details.proposal_observation - denoised.compared.observation).float().square().mean()
        terms["proposal"] = LossTerm(error, objective.proposal_weight)
    if objective.distortion_weight > 0:
        distortion = ray_distortion(details.weights, details.distances, near, far)
        terms["distortion"] = LossTerm(distortion, objective.distortion_weight)
    if objective.smoothness_weight > 0:
        smoothness = _smoothness(denoised, objective, near, far)
        terms["smoothness"] = LossTerm(smoothness, objective.smoothness_weight)
    if objective.perceptual is not None:
        rendered, true = denoised.observed.observation, denoised.compared.observation
        distance = objective.perceptual(rendered.flatten(0, 1), true.flatten(0, 1))
        terms["perceptual"] = LossTerm(distance, objective.perceptual_weight)
    return terms


def estimate_error(batch: Batch, conditioning: EstimatingConditioning) -> Tensor:
    """Compute the mean squared error of the deterministic estimate at the target."""
    colour = conditioning.estimate[:, :, :3]
    return (colour - batch.target.observation).float().square().mean()


def _smoothness(denoised: DenoisedBatch, objective: SceneObjective, near: float, far: float) -> Tensor:
    details = denoised.observed.auxiliary
    depth = details.depth
    if objective.fill_depth:
        depth = depth + (1 - details.opacity) * far
    image = denoised.compared.observation
    ends = objective.smoothness_depths or (near, far)
    return edge_aware_smoothness(depth.flatten(0, 1), image.flatten(0, 1), *ends)
