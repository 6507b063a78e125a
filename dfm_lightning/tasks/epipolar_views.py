"""Novel views by the epipolar feature transformer alone: SparseFusion's deterministic baseline (EFT)."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from dfm_lightning.errors import UserError
from dfm_lightning.first_step import check_trainable
from dfm_lightning.forward_models.chunks import in_chunks
from dfm_lightning.geometry.epipolar import ray_grid
from dfm_lightning.geometry.rays import ray_directions
from dfm_lightning.interfaces import check_batch, check_kind
from dfm_lightning.losses.charbonnier import charbonnier
from dfm_lightning.metrics.visibility import seen_from
from dfm_lightning.networks.epipolar import ContextMaps, EpipolarFeatures, EpipolarTransformer
from dfm_lightning.optimizers import OptimizerChoice, settings_of
from dfm_lightning.randomness import generator_for, seed_generators, seeded_generators
from dfm_lightning.ranges import check_at_least
from dfm_lightning.sampling import PredictingModule, evaluated
from dfm_lightning.tasks.scenes import EvaluatedScene, RenderedViews, SynthesisedViews, angles_to_nearest
from dfm_lightning.types import (
    Batch,
    Cameras,
    LossTerm,
    Prediction,
    Request,
    Views,
    concatenate,
    map_tensors,
    on_cpu,
    select_views,
)

ColourLoss = Literal["charbonnier", "squared"]
# Rays computed at once without gradients.
_RAYS_AT_ONCE = 2048


class RayTargets(NamedTuple):
    """Rays of a training step: a coarse grid through the target view, and the true colours there."""

    pixels: Float[Tensor, "b n 2"]
    colour: Float[Tensor, "b n 3"]


class EpipolarViews(PredictingModule):
    """Predicts views from any number of posed, masked context views, ray by ray; no diffusion (thesis, 4.2).

    All samples of a scene are the same views, so `samples` should be 1. Parts that no view determines are blurred.

    Args:
        transformer: predicts rays' colours and features.
        optimizer: the optimizer and its schedule; see `DiffusionWithForwardModel`.
        rays: rays of a training step along each side of the target view, and of the feature grids of a diffusion.
        rays_at_corners: whether the outermost of them go through the image's outermost pixels, as in the code,
            instead of the middles of patches, as in the thesis.
        colour_loss: SparseFusion's code has Charbonnier's, the thesis the squared error.
        least_contexts: training uses the first few of the context views that the data gives, a random number from
            this one on.
        samples: number of draws in test and predict.
        draw_batch: see `PredictingModule`.
    """

    fixed_by_checkpoint = frozenset({"transformer", "rays", "rays_at_corners"})
    without_effect = frozenset({"optimizer", "colour_loss", "least_contexts"})

    def __init__(
        self,
        transformer: EpipolarTransformer,
        optimizer: OptimizerChoice | None = None,
        rays: int = 32,
        rays_at_corners: bool = False,
        colour_loss: ColourLoss = "charbonnier",
        least_contexts: int = 1,
        samples: int = 1,
        draw_batch: int = 1,
    ) -> None:
        super().__init__(samples, draw_batch)
        check_at_least(2, rays=rays)
        check_at_least(1, least_contexts=least_contexts)
        self.transformer = transformer
        self.optimizer = settings_of(optimizer)
        self.rays = rays
        self.rays_at_corners = rays_at_corners
        self.colour_loss: ColourLoss = colour_loss
        self.least_contexts = least_contexts
        # See `DiffusionWithForwardModel`.
        self.training_terms: dict[str, Tensor] = {}

    # --- training ---------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read ImageNet's weights if the training begins with them."""
        if stage == "fit":
            self.transformer.pyramid.prepare()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make all that a step draws a function of the seed, the process and the step's number."""
        check_kind(batch, Batch)
        number = self.trainer.fit_loop.total_batch_idx
        seed_generators(generator_for("training step", self.global_rank, number).initial_seed())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the weighted sum of all losses of a batch."""
        most = batch.context.observation.shape[1]
        least = min(self.least_contexts, most)
        count = least + int(torch.randint(most - least + 1, ()))
        kept = batch._replace(context=select_views(batch.context, slice(count)))
        return self._log_total("train", self.losses(kept), len(batch.key))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the training losses on held-out scenes, at the same draws every time."""
        check_kind(batch, Batch)
        with seeded_generators(generator_for("validation", *batch.key).initial_seed()):
            self._log_total("val", self.losses(batch), len(batch.key))

    def losses(self, batch: Batch) -> dict[str, LossTerm]:
        """Compute all losses of a batch by name."""
        check_batch(batch)
        targets = self.ray_targets(batch.target)
        maps = self.transformer.encode(batch.context)
        cameras = batch.target.params
        found = self.transformer(maps, cameras.camera_to_world[:, 0], cameras.intrinsics[:, 0], targets.pixels)
        return {"colour": LossTerm(self.colour_error(found.colour, targets.colour), 1.0)}

    def colour_error(self, found: Float[Tensor, "*s"], true: Float[Tensor, "*s"]) -> Float[Tensor, ""]:
        """Compute the loss of colours in [0, 1]."""
        return charbonnier(found, true) if self.colour_loss == "charbonnier" else (found - true).square().mean()

    def ray_targets(self, target: Views) -> RayTargets:
        """Return a grid of rays through the target view, and their colours, interpolated between pixels."""
        images = target.observation[:, 0]
        pixels = self.grid_pixels(images)
        grid = 2 * pixels.view(len(images), self.rays, self.rays, 2) - 1
        colour = F.grid_sample(images, grid.to(images), padding_mode="border", align_corners=False)
        return RayTargets(pixels, (colour.flatten(2).mT + 1) / 2)

    def grid_pixels(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n 2"]:
        """Return the positions of the coarse grid's rays in images of this size."""
        height, width = images.shape[-2:]
        grid = ray_grid(self.rays, self.rays, height, width, self.rays_at_corners)
        return grid.reshape(1, -1, 2).to(images).expand(len(images), -1, -1)

    def _log_total(self, stage: str, terms: dict[str, LossTerm], batch_size: int) -> Tensor:
        total = torch.stack([term.value * term.weight for term in terms.values()]).sum()
        if stage == "train":
            self.training_terms = {name: term.value.detach() for name, term in terms.items()}
        values = {f"{stage}/{name}": term.value for name, term in terms.items()}
        self.log_dict({f"{stage}/loss": total, **values}, batch_size=batch_size, sync_dist=stage == "val")
        return total

    def configure_optimizers(self) -> Optimizer | OptimizerLRSchedulerConfig:
        """Make the optimizer of what is to be trained, and its schedule."""
        check_trainable(self)
        parameters = (parameter for parameter in self.parameters() if parameter.requires_grad)
        optimizer = self.optimizer.optimizer(parameters)
        schedule = self.optimizer.schedule(optimizer, lambda: self.trainer.estimated_stepping_batches)
        return optimizer if schedule is None else {"optimizer": optimizer, "lr_scheduler": schedule}

    # --- views ------------------------------------------------------------------------------------------

    def features(
        self, maps: ContextMaps, cameras: Cameras, view: int, pixels: Float[Tensor, "b n 2"]
    ) -> EpipolarFeatures:
        """Predict colours and features of one query camera's rays, in pieces that fit into memory."""
        pose, intrinsics = cameras.camera_to_world[:, view], cameras.intrinsics[:, view]

        def piece(part: Tensor) -> EpipolarFeatures:
            return self.transformer(maps, pose, intrinsics, part)

        found = list(in_chunks(piece, (pixels,), _RAYS_AT_ONCE, dim=1))
        axes = (1, 1, 2, 2)  # where the rays are
        return EpipolarFeatures(
            *(torch.cat(parts, dim=axis) for parts, axis in zip(zip(*found, strict=True), axes, strict=True))
        )

    def render_estimate(self, maps: ContextMaps, cameras: Cameras) -> RenderedViews:
        """Predict views of query cameras by the transformer alone, in full resolution, one after the other."""
        views = []
        for view in range(cameras.pixels.shape[1]):
            pixels = cameras.pixels[:, view]
            found = self.features(maps, cameras, view, pixels.flatten(1, 2))
            images = found.colour.mT.unflatten(2, pixels.shape[1:3]) * 2 - 1
            depths = self.transformer.depth_range.depths(maps.distance, self.transformer.aggregation.depths)
            weights = (found.depth_weights * found.view_weights[..., None]).sum(dim=1)
            depth = (weights * depths[:, None]).sum(dim=-1).unflatten(1, pixels.shape[1:3])
            # From depths along the axis to distances along the ray.
            one = select_views(cameras, slice(view, view + 1))
            forward = one.camera_to_world[:, 0, None, None, :3, 2]
            cosine = (ray_directions(one)[:, 0] * forward).sum(dim=-1)
            views.append(
                RenderedViews(
                    images[:, None], (depth / cosine)[:, None, None], torch.ones_like(depth)[:, None, None]
                )
            )
            self.plan.worked(1)
        return concatenate(views, dim=1)

    def draw_views(self, key: str, context: Views, cameras: Cameras, draw: int, purpose: str) -> RenderedViews:
        """Draw views of a scene (a batch of one)."""
        return self.render_estimate(self.transformer.encode(context), cameras)

    def predict_draws(self, key: str, context: Views, params: Cameras, draws: range) -> Iterator[Prediction]:
        """See `PredictingModule`."""
        check_context(key, context)
        for draw in draws:
            seen = self.draw_views(key, context, params, draw, "predict")
            signal = SynthesisedViews(context, seen.depth[0], seen.opacity[0])
            yield Prediction(key, draw, signal, seen.image[0], params, context)

    def work(self, batch: Batch | Request) -> int:
        """See `Predictor`: a piece is a view of the transformer's."""
        if isinstance(batch, Request):
            return len(batch.key) * self.draws * batch.params.pixels.shape[1]
        views = sum(part.observation.shape[1] for part in (batch.context, batch.target, batch.novel))
        return len(batch.key) * views * (self.samples + 1)

    @evaluated
    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[EvaluatedScene]]:
        """Predict the views of each scene, beside the transformer's own estimate, for a report."""
        scenes = []
        for row, key in enumerate(batch.key):
            if not self.plan.pending(key, self.samples):
                continue
            one = map_tensors(lambda t, i=row: t[i : i + 1], batch)._replace(key=[key])
            check_context(key, one.context)
            scenes.append(self._evaluated_scene(one, key))
        return {"scenes": scenes}

    def _evaluated_scene(self, batch: Batch, key: str) -> EvaluatedScene:
        views = concatenate([batch.context, batch.target, batch.novel], dim=1)
        parts = {"context": batch.context, "target": batch.target, "novel": batch.novel}
        roles = [role for role, part in parts.items() for _ in range(part.observation.shape[1])]
        estimate = self.render_estimate(self.transformer.encode(batch.context), views.params)
        drawn = [self.draw_views(key, batch.context, views.params, draw, "test") for draw in range(self.samples)]
        contexts = batch.context.observation.shape[1]
        cameras = select_views(views.params, slice(contexts))
        seen = seen_from(estimate.depth, views.params, estimate.depth[:, :contexts], cameras)
        angles = angles_to_nearest(views.params, contexts)[0]
        found = on_cpu(concatenate(drawn, dim=0))
        estimate, truth, seen, angles = on_cpu((estimate, views.observation, seen, angles))
        known = {name: value[0].cpu() for name, value in batch.truth.items()}
        return EvaluatedScene(
            key=key,
            roles=roles,
            truth=truth[0],
            samples=found.image,
            sample_depths=found.depth,
            estimate=estimate.image[0],
            estimate_depth=estimate.depth[0],
            seen=seen[0],
            known={**known, "angle": angles},
        )


def check_context(key: str, context: Views) -> None:
    """Raise `UserError` where no context view shows anything.

    Masked pixels are black, so a view with an empty mask is black as a whole.
    """
    shown = (context.observation > -1 + 1 / 255).flatten(2).any(dim=2)
    if not bool(shown.any()):
        raise UserError(f"scene {key}: its context views show nothing: all of them are black, or masked away")
