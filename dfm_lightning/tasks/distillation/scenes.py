"""Scenes distilled from a view-conditioned diffusion model: each becomes a field."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from dfm_lightning.files import file_name
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.losses import PerceptualLoss
from dfm_lightning.networks.epipolar import ResNetPyramid
from dfm_lightning.networks.grid_field import GridField
from dfm_lightning.randomness import user_seed
from dfm_lightning.record import contents_of
from dfm_lightning.tasks.distillation.distiller import Distiller, Perceptual
from dfm_lightning.tasks.distillation.settings import Distillation
from dfm_lightning.tasks.distillation.views import given_views, ring_views
from dfm_lightning.tasks.epipolar_views import check_context
from dfm_lightning.tasks.latent_views import LatentViews
from dfm_lightning.tasks.scenes import RenderedViews, SampledScene, render_views
from dfm_lightning.types import Batch, Cameras, Prediction, Request, Views


class DistilledScenes(LatentViews):
    """Find for each scene one field whose renderings the diffusion model finds likely: a mode (thesis, 4.4).

    Trained as `LatentViews` is, and made to use its checkpoints. A draw of a scene in test or predict is a
    distillation: thousands of iterations of two renderings each.

    Args:
        field: the radiance field of a scene; each scene begins with a new one.
        renderer: renders it. Near and far bound where rays look for the field.
        distillation: every constant.
        lpips_weights: torchvision's weights of VGG-16, for the perceptual distance; see `PerceptualLoss`.
        model: see `LatentViews`.
    """

    without_effect = frozenset({"lpips_weights"})

    def __init__(
        self,
        field: GridField | None = None,
        renderer: VolumeRendering | None = None,
        distillation: Distillation | None = None,
        lpips_weights: str | None = None,
        **model: Any,
    ) -> None:
        super().__init__(**model)
        # In a tuple: its parameters belong neither to the model nor to its checkpoints.
        self._prototype = (field or GridField(),)
        self.renderer = renderer or VolumeRendering(0.1, 100.0, checkpointing=True)
        self.distillation = distillation or Distillation()
        self.lpips_weights = lpips_weights
        self._lpips: PerceptualLoss | None = None
        self._weights: str | None = None

    def setup(self, stage: str) -> None:
        """Read the perceptual distance's weights before hours of work depend on them."""
        super().setup(stage)
        if stage in ("test", "predict") and self.distillation.perceptual == "lpips":
            self._perceptual()

    def draw_views(self, key: str, context: Views, cameras: Cameras, draw: int, purpose: str) -> RenderedViews:
        """See `EpipolarViews`: renderings of the field."""
        # The cameras of a trajectory are made up; those of a test are the scene's own.
        field = self.distil(key, context, draw, cameras if purpose == "test" else None)
        return self.render(field, cameras)

    def predict_draws(self, key: str, context: Views, params: Cameras, draws: range) -> Iterator[Prediction]:
        """See `PredictingModule`: distilled scenes, rendered along the trajectory."""
        check_context(key, context)
        for draw in draws:
            field = self.distil(key, context, draw, None)
            seen = self.render(field, params)
            signal = SampledScene(field, context, seen.depth[0], seen.opacity[0], self.renderer.centred())
            yield Prediction(key, draw, signal, seen.image[0], params, context)

    def render(self, field: GridField, cameras: Cameras) -> RenderedViews:
        """Render a field, view after view."""
        return render_views(self.renderer.eval(), field, cameras, lambda: self.plan.worked(1))

    def distil(self, key: str, context: Views, draw: int, others: Cameras | None) -> GridField:
        """Distil a scene (a batch of one); with the state that is stored, if any.

        Args:
            key: the scene's name.
            context: its input views.
            draw: number of the draw.
            others: the scene's other cameras, which SparseFusion's code as it is uses.
        """
        settings = self.distillation
        others = others if settings.as_released else None
        name = ("distillation", key, draw)
        distiller = Distiller(
            self, settings, self.renderer, self._perceptual(), name, self._made_with(context, others)
        )
        field = copy.deepcopy(self._prototype[0]).to(context.observation.device)
        with distiller.drawing("field"):
            field.reset()
        # The field's world is the data set's, whose axes the first context camera's pose leads to.
        field.to_grid.copy_(context.params.absolute_pose[0, 0])
        with distiller.drawing("ring"):
            ring = ring_views(self, context, others, settings)
        path = None if settings.folder is None else Path(settings.folder) / file_name(key) / f"state_{draw:02}.pt"
        self.renderer.train()
        distiller.run(field, given_views(context, settings), ring, path)
        self.renderer.eval()
        return field.requires_grad_(False)

    def work(self, batch: Batch | Request) -> int:
        """See `Predictor`: a piece is an iteration, a camera of the ring, or a rendered view."""
        each = self.distillation.iterations + self.distillation.ring_cameras
        if isinstance(batch, Request):
            return len(batch.key) * self.draws * (each + batch.params.pixels.shape[1])
        views = sum(part.observation.shape[1] for part in (batch.context, batch.target, batch.novel))
        each += views if self.distillation.as_released else 0
        return len(batch.key) * (self.samples * (each + views) + views)

    # --- inner workings -----------------------------------------------------------------------------------

    def _perceptual(self) -> Perceptual | None:
        settings = self.distillation
        if settings.targets != "mode" or settings.perceptual == "none" or settings.perceptual_weight == 0:
            return None
        if settings.perceptual == "pyramid":
            return PyramidDistance(self.transformer.pyramid)
        if self._lpips is None:
            self._lpips = PerceptualLoss("vgg", self.lpips_weights)
            self._lpips.prepare()
        return self._lpips

    def _made_with(self, context: Views, others: Cameras | None) -> dict[str, Any]:
        """Collect all that a distillation depends on besides its name, by name."""
        if self._weights is None:
            self._weights = contents_of(dict(self.state_dict()))
        settings = self.settings()
        del settings["draw_batch"]
        precision = "32-true" if self._trainer is None else str(self._trainer.precision)
        views = contents_of((context, others or ()))
        return {"seed": user_seed(), "weights": self._weights, "precision": precision, "views": views, **settings}


class PyramidDistance:
    """The mean squared difference of a pyramid's features of two images, each normalised over its channels."""

    def __init__(self, pyramid: ResNetPyramid) -> None:
        self.pyramid = pyramid

    def __call__(self, image: Tensor, target: Tensor) -> Tensor:
        """Compare images in [-1, 1]."""
        found, true = (F.normalize(self.pyramid((part + 1) / 2), dim=1) for part in (image, target))
        return (found - true).square().sum(dim=1).mean()
