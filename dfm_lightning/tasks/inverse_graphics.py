"""Inverse graphics: 3D scenes from images (DFM section 4.1)."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.denoisers.scene_denoiser import SceneDenoiser
from dfm_lightning.diffusion import GuidanceSpace, MinorityScore, NoiseProcess, PerturbedAttention, Sampler
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.metrics.visibility import seen_from
from dfm_lightning.module import DenoisedBatch, DiffusionWithForwardModel
from dfm_lightning.optimizers import OptimizerChoice
from dfm_lightning.ranges import check_at_least
from dfm_lightning.sampling import evaluated, one_by_one, scores_of
from dfm_lightning.signals import RadianceField
from dfm_lightning.tasks.objectives import SceneObjective
from dfm_lightning.tasks.scene_losses import estimate_error, scene_losses
from dfm_lightning.tasks.scenes import (
    EvaluatedScene,
    RenderedViews,
    SampledScene,
    angles_to_nearest,
    frames_to_sample,
    render_views,
)
from dfm_lightning.types import (
    Batch,
    Cameras,
    LossTerm,
    Prediction,
    Request,
    Sample,
    Views,
    concatenate,
    map_tensors,
    on_cpu,
    repeat_batch,
    select_views,
)


class InverseGraphics(DiffusionWithForwardModel[RadianceField, Cameras]):
    """Radiance fields whose renderings are diffused; the denoiser is conditioned on a deterministic estimate.

    Args:
        denoiser: predicts the radiance field from context views and a noisy target view. Where the objective
            weighs the estimate, its conditioning is an `EstimatingConditioning`.
        forward_model: renders the radiance field.
        process: the noising of observations.
        sampler: the reverse process used by sampling, test and predict.
        optimizer: the optimizer and its schedule, such as `AdamWithWarmup` or `TorchOptimizer`; or a class of
            `torch.optim`, for a constant rate.
        target_weight: weight of the loss at the target's camera (DFM eq. 8).
        novel_weight: weight of the loss at novel cameras (DFM eq. 9).
        objective: weights and settings of the other losses.
        warm_start_steps: iterations at the start that train a part of the denoiser alone. With pixelNeRF, the
            deterministic part: then the joint field's MLPs begin as copies of the deterministic one's, as in the
            original two stages, and parts that have not been trained before have their own warm-up of the learning
            rate. With `VolumeDenoiser`, its 2D network, as a denoiser of all target and novel images. A model that
            is distilled has no warm start.
        random_context_views: in training, use only the first few of the context views that the data gives, a
            random number from 1 on, the same for the whole batch.
        context_dropout: probability that a training batch has its context dropped, so that the model can be
            guided; 0 for models sampled without guidance.
        guidance_scale: classifier-free guidance in sampling; 1 is none.
        guidance_space: where guidance extrapolates. "signal": the guided image is a rendering of the guided
            scene. "observation": as in the original code; the scene stays unguided.
        samples: number of scenes drawn for each context in test and predict.
        draw_batch: how many of them predict draws in one batch; see `PredictingModule`.
        autoregressive_steps: number of views that predict samples one after the other, evenly along the
            trajectory (and at its end, unless it comes back to its beginning); each becomes context of the next.
        farthest_first: sample each time the view that is farthest from those known, so that one view decides most
            of what the context hides, and the others fill in between. By default views follow the trajectory, as
            in the paper.
        perturbed_attention: guidance of DiT denoisers in sampling, for twice the evaluations; none if None.
        minority: scores how rare each sampled view is, for some evaluations more; none if None.
    """

    without_effect = frozenset({"objective", "warm_start_steps", "random_context_views"})

    denoiser: SceneDenoiser
    forward_model: VolumeRendering

    def __init__(
        self,
        denoiser: SceneDenoiser,
        forward_model: VolumeRendering,
        process: NoiseProcess | None = None,
        sampler: Sampler | None = None,
        optimizer: OptimizerChoice | None = None,
        target_weight: float = 1.0,
        novel_weight: float = 1.0,
        objective: SceneObjective | None = None,
        warm_start_steps: int = 0,
        random_context_views: bool = True,
        context_dropout: float = 0.0,
        guidance_scale: float = 1.0,
        guidance_space: GuidanceSpace = "signal",
        samples: int = 4,
        autoregressive_steps: int = 3,
        draw_batch: int = 1,
        perturbed_attention: PerturbedAttention | None = None,
        minority: MinorityScore | None = None,
        farthest_first: bool = False,
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
            samples,
            draw_batch,
            perturbed_attention=perturbed_attention,
            minority=minority,
        )
        forward_model.require_ends()
        check_at_least(1, autoregressive_steps=autoregressive_steps)
        check_at_least(0, warm_start_steps=warm_start_steps)
        self.objective = objective or SceneObjective()
        self.warm_start_steps = warm_start_steps
        self.random_context_views = random_context_views
        self.autoregressive_steps = autoregressive_steps
        self.farthest_first = farthest_first

    def setup(self, stage: str) -> None:
        """Refuse a precision too coarse for cameras; read the perceptual loss's weights before training starts."""
        precision = str(self.trainer.precision)
        if precision.endswith("16-true"):
            raise UserError(
                f"inverse graphics does not work with --trainer.precision {precision}, which rounds cameras and "
                f"pixels to a few digits: use {precision.replace('true', 'mixed')}, or 32-true"
            )
        if stage == "fit" and self.objective.perceptual is not None:
            self.objective.perceptual.prepare()

    # --- training ---------------------------------------------------------------------------------------

    @property
    def warming_up(self) -> bool:
        """Tell whether training is still in its warm start, which a model that has a teacher does not have."""
        return self.training and self.teaching is None and self.global_step < self.warm_start_steps

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Initialise the joint field from the deterministic part at the end of the warm start."""
        super().on_train_batch_start(batch, batch_idx)
        if self.teaching is None and 0 < self.warm_start_steps == self.global_step:
            self.denoiser.adopt_deterministic_mlp()

    def prepare_training_batch(self, batch: Batch) -> Batch:
        """Keep only the first few of the context views, since poses are relative to the first."""
        if not self.random_context_views:
            return batch
        count = int(torch.randint(1, batch.context.observation.shape[1] + 1, ()))
        return batch._replace(context=select_views(batch.context, slice(count)))

    def drops_context(self) -> bool:
        """Return False during the warm start, which trains what the context alone determines."""
        return not self.warming_up and super().drops_context()

    def losses(self, batch: Batch, context_dropped: bool = False) -> dict[str, LossTerm]:
        """Compute all losses; during the warm start only those of the part that it trains.

        By default that part is the deterministic estimate, which needs no rendering of the signal.
        """
        if self.warming_up:
            own = self.denoiser.warm_start_losses(batch)
            if own:
                return own
            conditioning = self.denoiser.condition(batch.context, batch.target.params)
            error = estimate_error(batch, conditioning)
            return {"estimate": LossTerm(error, self.objective.estimate_weight)}
        return super().losses(batch, context_dropped)

    def regularisers(self, denoised: DenoisedBatch) -> dict[str, LossTerm]:
        """See `DiffusionWithForwardModel` and `scene_losses`."""
        return scene_losses(denoised, self.objective, self.forward_model.near, self.forward_model.far)

    # --- test -------------------------------------------------------------------------------------------

    @evaluated
    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[EvaluatedScene]]:
        """Draw scenes for each context, and render them and the deterministic estimate at all cameras.

        A report measures the `scenes`, except those that it has measured before.
        """
        unfinished = [row for row, key in enumerate(batch.key) if self.plan.pending(key, self.samples)]
        if not unfinished:
            return {"scenes": []}
        batch = map_tensors(lambda t: t[unfinished], batch)._replace(key=[batch.key[row] for row in unfinished])
        names: list[tuple[str | int, ...]] = [
            ("test", key, sample) for key in batch.key for sample in range(self.samples)
        ]
        views = concatenate([batch.context, batch.target, batch.novel], dim=1)
        contexts = batch.context.observation.shape[1]
        drawn = self.sample(batch.context, batch.target.params, names, self.target_size(batch.context))
        sampled = self.render(drawn.signal, repeat_batch(views.params, self.samples))
        estimate = self.render(self.denoiser.deterministic_field(batch.context), views.params)
        seen = self._seen_from_context(sampled, repeat_batch(views.params, self.samples), contexts)
        sampled, seen = map_tensors(
            lambda t: t.unflatten(0, (len(batch.key), self.samples)), on_cpu((sampled, seen))
        )
        estimate, truth = on_cpu((estimate, views.observation))
        counts = {"context": batch.context, "target": batch.target, "novel": batch.novel}
        roles = [role for role, part in counts.items() for _ in range(part.observation.shape[1])]
        scenes = [
            EvaluatedScene(
                key=key,
                roles=roles,
                truth=truth[row],
                samples=sampled.image[row],
                sample_depths=sampled.depth[row],
                estimate=estimate.image[row],
                estimate_depth=estimate.depth[row],
                seen=seen[row].float().mean(dim=0) > 0.5,
                known=self._known(batch, views.params, row),
            )
            for row, key in enumerate(batch.key)
        ]
        return {"scenes": scenes}

    def _known(self, batch: Batch, cameras: Cameras, row: int) -> dict[str, Tensor]:
        """Collect the truth of a scene's views; of crops around an object, the angles to the context views too."""
        known = {name: value[row].cpu() for name, value in batch.truth.items()}
        if "valid" in known:
            known["angle"] = angles_to_nearest(cameras, batch.context.observation.shape[1])[row].cpu()
        return known

    def _seen_from_context(self, rendered: RenderedViews, cameras: Cameras, contexts: int) -> Tensor:
        """Find what the first `contexts` of the rendered views show, in all of them."""
        cameras = self.forward_model.aligned(cameras)
        # A ray's remaining transmittance lies behind everything.
        distance = rendered.depth + (1 - rendered.opacity) * self.forward_model.far
        return seen_from(distance, cameras, distance[:, :contexts], select_views(cameras, slice(contexts)))

    @evaluated
    def render(self, field: RadianceField, cameras: Cameras) -> RenderedViews:
        """Render images of scenes, view after view."""
        scenes = len(cameras.pixels)
        return render_views(self.forward_model, field, cameras, lambda: self.plan.worked(scenes))

    def observe(self, signal: RadianceField | SampledScene, params: Cameras) -> Tensor:
        """See `DiffusionSampling`; renders a field or a `SampledScene`, view after view.

        (A prediction's own `params` are those of a renderer with exact pixel centres: pass the request's.)
        """
        return self.render(signal.field if isinstance(signal, SampledScene) else signal, params).image

    # --- predict ----------------------------------------------------------------------------------------

    def predict_draws(self, key: str, context: Views, params: Cameras, draws: range) -> Iterator[Prediction]:
        """Sample some scenes around the trajectory at once, and render them along all of it."""
        count = len(draws)
        drawn, views = self.sample_around(context, params, [("predict", key, draw) for draw in draws])
        field = drawn.signal
        rendered = self.render(field, repeat_batch(params, count))
        # The cameras as used in rendering: those written beside the frames must project what they show.
        seen_by = self.forward_model.aligned(params)
        renderer = self.forward_model.centred()
        each = zip(one_by_one(field, count), one_by_one(views, count), strict=True)
        for place, (one, seen) in enumerate(each):
            signal = SampledScene(one, seen, rendered.depth[place], rendered.opacity[place], renderer)
            scores = scores_of(drawn, place)
            yield Prediction(key, draws[place], signal, rendered.image[place], seen_by, context, scores=scores)

    def sample_around(
        self, context: Views, trajectory: Cameras, names: list[tuple[str | int, ...]]
    ) -> tuple[Sample, Views]:
        """Sample views of one scene along a trajectory, each with those before it as context; a batch of draws.

        Returns:
            The last sample, whose fields are made of all context and sampled views, with the scores' mean over all
            samples; and these views.
        """
        scores: list[dict[str, Tensor]] = []
        views = repeat_batch(context, len(names))
        for step, frame in enumerate(self.target_frames(trajectory.camera_to_world[0])):
            camera = select_views(trajectory, slice(frame, frame + 1))
            # Sampled at the context's resolution, which may differ from that of the rendered frames.
            target: Cameras = repeat_batch(camera._replace(pixels=context.params.pixels[:, :1]), len(names))
            drawn = self.sample(views, target, [(*name, step) for name in names], self.target_size(context))
            scores.append(drawn.scores)
            views = concatenate([views, Views(drawn.observation, target)], dim=1)
        mean = {name: torch.stack([each[name] for each in scores]).mean(dim=0) for name in drawn.scores}
        return drawn._replace(scores=mean), views

    def target_frames(self, camera_to_world: Float[Tensor, "v 4 4"]) -> list[int]:
        """See `frames_to_sample`."""
        return frames_to_sample(camera_to_world, self.autoregressive_steps, self.farthest_first)

    def work(self, batch: Batch | Request) -> int:
        """See `Predictor`: a piece is an evaluation of the denoiser or a rendering of one view."""
        scenes = len(batch.key)
        if isinstance(batch, Request):
            frames = batch.params.pixels.shape[1]
            return scenes * self.draws * (self.autoregressive_steps * self.evaluations + frames)
        views = sum(part.observation.shape[1] for part in (batch.context, batch.target, batch.novel))
        return scenes * (self.samples * (self.evaluations + views) + views)
