"""Motion prediction: from one image to the motions that may follow (DFM, supplement 2.2)."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.denoisers import ImageToMotion
from dfm_lightning.diffusion import GuidanceSpace, MinorityScore, NoiseProcess, PerturbedAttention, Sampler
from dfm_lightning.forward_models import ImageWarping
from dfm_lightning.losses import edge_aware_flow_smoothness
from dfm_lightning.module import DenoisedBatch, DiffusionWithForwardModel
from dfm_lightning.optimizers import OptimizerChoice
from dfm_lightning.ranges import check_at_least
from dfm_lightning.sampling import evaluated
from dfm_lightning.signals import Motion
from dfm_lightning.tasks.objectives import MotionObjective
from dfm_lightning.types import (
    Batch,
    LossTerm,
    Moment,
    Views,
    as_request,
    concatenate,
    map_tensors,
    on_cpu,
    repeat_batch,
    select_views,
)

# Added to squared lengths, in square pixels.
_LENGTH_OFFSET = 1e-4


class EvaluatedMotion(NamedTuple):
    """A test image, its true further frames, and the same of samples of its motion. On the CPU.

    `roles` says of each of the v frames whether it is the "target" or a "novel" one; images are in [-1, 1], flows
    to the target in pixels. `coverage` is 0 in holes. `true_motion` holds the truth of synthetic clips: `flow`,
    `shape`, `directions` and `probabilities` (see `datamodules.vimeo90k`), or is empty.
    """

    key: str
    roles: list[str]
    image: Float[Tensor, "3 h w"]
    truth: Float[Tensor, "v 3 h w"]
    samples: Float[Tensor, "s v 3 h w"]
    coverage: Float[Tensor, "s v 1 h w"]
    flows: Float[Tensor, "s 2 h w"]
    true_motion: dict[str, Tensor]


class MotionPrediction(DiffusionWithForwardModel[Motion, Moment]):
    """Motions of an image; the diffused observation is the image warped by them to its end.

    Args:
        denoiser: predicts the motion from the image and a noisy target.
        forward_model: warps the image.
        process: the noising of target frames.
        sampler: the reverse process used by sampling, test and predict.
        optimizer: the optimizer and its schedule, such as `AdamWithWarmup` or `TorchOptimizer`; or a class of
            `torch.optim`, for a constant rate.
        target_weight: weight of the squared error of the target frame (DFM eq. 8).
        novel_weight: weight of that of frames in between, if the data gives any (DFM eq. 9).
        objective: weights and settings of the losses.
        context_dropout: probability that a training batch has its image dropped, so that the model can be guided;
            0 for models sampled without guidance.
        guidance_scale: classifier-free guidance in sampling; 1 is none.
        guidance_space: where guidance extrapolates. "signal": the guided frame is the image warped by the guided
            motion. "observation": the motion stays unguided.
        samples: number of motions drawn for each image in test and predict.
        draw_batch: how many of them predict draws in one batch; see `PredictingModule`.
        samples_at_once: how many of them are drawn in one batch in test.
        perturbed_attention: guidance in sampling, for twice the evaluations of the network; none if None.
        minority: scores how rare each sampled frame is, for some evaluations more; none if None.
    """

    without_effect = frozenset({"objective", "samples_at_once"})

    denoiser: ImageToMotion
    forward_model: ImageWarping

    def __init__(
        self,
        denoiser: ImageToMotion,
        forward_model: ImageWarping,
        process: NoiseProcess | None = None,
        sampler: Sampler | None = None,
        optimizer: OptimizerChoice | None = None,
        target_weight: float = 1.0,
        novel_weight: float = 1.0,
        objective: MotionObjective | None = None,
        context_dropout: float = 0.0,
        guidance_scale: float = 1.0,
        guidance_space: GuidanceSpace = "signal",
        samples: int = 8,
        samples_at_once: int = 64,
        draw_batch: int = 1,
        perturbed_attention: PerturbedAttention | None = None,
        minority: MinorityScore | None = None,
    ) -> None:
        super().__init__(
            denoiser,
            forward_model,
            process,
            sampler,
            optimizer,
            target_weight,
            novel_weight,
            context_dropout,
            guidance_scale,
            guidance_space,
            samples=samples,
            draw_batch=draw_batch,
            perturbed_attention=perturbed_attention,
            minority=minority,
        )
        self.objective = objective or MotionObjective()
        check_at_least(1, samples_at_once=samples_at_once)
        self.samples_at_once = samples_at_once

    def setup(self, stage: str) -> None:
        """Read the perceptual loss's weights before the first iteration, not after an hour of loading data."""
        if stage == "fit" and self.objective.perceptual is not None:
            self.objective.perceptual.prepare()

    # --- training ---------------------------------------------------------------------------------------

    def observation_losses(self, denoised: DenoisedBatch) -> dict[str, LossTerm]:
        """Compute the squared errors, with holes weighted by `hole_weight`."""
        if self.objective.hole_weight == 1:
            return super().observation_losses(denoised)
        coverage = denoised.observed.auxiliary.coverage.detach()
        weight = (coverage + self.objective.hole_weight * (1 - coverage)).sqrt()
        observed, compared = denoised.observed, denoised.compared
        weighted = denoised._replace(
            observed=observed._replace(observation=observed.observation * weight),
            compared=compared._replace(observation=compared.observation * weight),
        )
        return super().observation_losses(weighted)

    def regularisers(self, denoised: DenoisedBatch) -> dict[str, LossTerm]:
        """Compute smoothness and length of the flow, and perceptual distance of all frames, except those of weight
        0.
        """
        terms = {}
        if self.objective.smoothness_weight > 0:
            image = denoised.batch.target.params.image[:, 0]
            roughness = edge_aware_flow_smoothness(denoised.signal.flow, image, self.objective.edge_strength)
            terms["smoothness"] = LossTerm(roughness, self.objective.smoothness_weight)
        if self.objective.magnitude_weight > 0:
            # The square root has no gradient at zero, where training begins.
            length = (denoised.signal.flow.square().sum(dim=1) + _LENGTH_OFFSET).sqrt()
            terms["magnitude"] = LossTerm(length.mean(), self.objective.magnitude_weight)
        if self.objective.perceptual is not None:
            warped, true = denoised.observed.observation, denoised.compared.observation
            distance = self.objective.perceptual(warped.flatten(0, 1), true.flatten(0, 1))
            terms["perceptual"] = LossTerm(distance, self.objective.perceptual_weight)
        return terms

    # --- test -------------------------------------------------------------------------------------------

    @evaluated
    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[EvaluatedMotion]]:
        """Draw motions of each image; a report measures the `scenes`, except those it has measured before."""
        rows = [row for row, key in enumerate(batch.key) if self.plan.pending(key, self.samples)]
        scenes = [map_tensors(lambda t, r=row: t[r : r + 1], batch)._replace(key=[batch.key[row]]) for row in rows]
        return {"scenes": [self._evaluate(scene) for scene in scenes]}

    def _evaluate(self, batch: Batch) -> EvaluatedMotion:
        """Draw samples for one image (batch of one), in parts, so that memory does not grow with their number."""
        (key,) = batch.key
        frames = concatenate([batch.target, batch.novel], dim=1)
        parts = [
            self._draw(
                key, batch.context, as_request(batch).params, range(self.samples)[first:][: self.samples_at_once]
            )
            for first in range(0, self.samples, self.samples_at_once)
        ]
        samples, coverage, flows = concatenate(parts, dim=0)
        counts = {"target": batch.target, "novel": batch.novel}
        evaluated = EvaluatedMotion(
            key=key,
            roles=[role for role, part in counts.items() for _ in range(part.observation.shape[1])],
            image=batch.context.observation[0, 0],
            truth=frames.observation[0],
            samples=samples,
            coverage=coverage,
            flows=flows,
            true_motion={name: value[0] for name, value in batch.truth.items()},
        )
        return on_cpu(evaluated)

    def _draw(self, key: str, context: Views, params: Moment, numbers: range) -> tuple[Tensor, Tensor, Tensor]:
        """Return frames, their coverage and the flow of some samples of one image."""
        names: list[tuple[str | int, ...]] = [("test", key, number) for number in numbers]
        target = select_views(params, slice(0, 1))
        drawn = self.sample(context, target, names, self.target_size(context))
        observed = self.forward_model.observe(drawn.signal, repeat_batch(params, len(names)))
        self.plan.worked(len(names))
        return observed.observation, observed.auxiliary.coverage, drawn.signal.flow
