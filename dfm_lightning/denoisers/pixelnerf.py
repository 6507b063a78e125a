"""The denoiser of inverse graphics: from context images and a noisy target to a radiance field (DFM, 4.1)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfm_lightning.denoisers.blended_field import BlendedField
from dfm_lightning.denoisers.linear_estimate import LinearEstimate
from dfm_lightning.denoisers.pixelnerf_field import PixelNeRFField, pixelnerf_field
from dfm_lightning.denoisers.remembered_context import ContextMemory, RememberingField
from dfm_lightning.denoisers.rendered_estimate import check_coarse_only, enlarge, reduce_cameras
from dfm_lightning.denoisers.scene_denoiser import SceneDenoiser
from dfm_lightning.forward_models.volume_rendering import VolumeRendering
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.networks.embeddings import embed_smoothly
from dfm_lightning.networks.image_encoder import ImageEncoder
from dfm_lightning.networks.radiance_mlp import RadianceMLP
from dfm_lightning.ranges import check_at_least
from dfm_lightning.signals import RadianceField
from dfm_lightning.types import Cameras, Level, Views, concatenate


class PixelNeRFConditioning(NamedTuple):
    """The denoiser's conditioning, computed once for a sampling run.

    `context` is the field of the context views in the networks of the joint field, `target` the target's cameras,
    `estimate` the deterministic estimate of the target view: colour in [-1, 1] (3 channels), depth (1), features.
    """

    context: PixelNeRFField | BlendedField
    target: Cameras
    estimate: Float[Tensor, "b 1 c h w"]


class PixelNeRFDenoiser(SceneDenoiser[PixelNeRFConditioning]):
    """Predict a radiance field from the features of context views and of the noisy target view.

    The context alone determines a deterministic field; its rendering at the target's camera, the deterministic
    estimate, is given to the encoder beside the noisy target. The signal is the field of context and target views
    together.

    Args:
        encoder: from images to feature maps.
        estimate_renderer: renders the deterministic estimate; without fine samples. Its near, far, background and
            corner_aligned are the forward model's.
        estimate_reduction: the estimate is rendered at 1/this of the target's resolution and enlarged, since every
            iteration renders all of it, on which a small model spends much of its time. 1 in the original models.
            It must divide the target's height and width.
        mlp_width: width of the three MLPs: of the deterministic field, and coarse and fine of the joint one.
        mlp_blocks: residual blocks of each MLP.
        mlp_blocks_per_view: how many of them come before the mean over views.
        octaves: frequencies in the positional encoding of points.
        project_behind: whether a point behind a camera has features of the image position it projects to,
            mirrored, as in the original models. Otherwise such a view contributes the point's position alone.
        smooth_levels: whether the networks are told a level by its signal-to-noise ratio, so that their outputs at
            neighbouring levels do not jitter. The original networks are told its number.
        context_memory_mb: memory for the contribution of the context views at the coarse points of rays, which a
            sampling run then computes once instead of in every evaluation: `mlp_width` numbers a point for the
            coarse and for the fine MLP, 1.0 GB a sample at 64×64 pixels, 64 points and width 512; half as much
            again where evaluations share the places of fine points. What does not fit is computed each time. 0
            for none, and with `learned_weights` or `source_colours`, whose parts do not add up.
        learned_weights: each point weighs its views and knows how much they differ (as in IBRNet, Wang et al.
            2021), instead of the original models' plain mean over views.
        source_colours: each point chooses its colour among the pixels that it projects to and one of its own; the
            noisy target's pixels are those of a linear estimate of it (see `LinearEstimate`). The original models
            have the point's own alone.
        preconditioned: without training, points are opaque and choose the target's pixels, so that the denoised
            target is its linear estimate; training begins there. Needs `source_colours`.
    """

    without_effect = frozenset({"context_memory_mb"})

    def __init__(
        self,
        encoder: ImageEncoder,
        estimate_renderer: VolumeRendering,
        estimate_reduction: int = 1,
        mlp_width: int = 512,
        mlp_blocks: int = 5,
        mlp_blocks_per_view: int = 3,
        octaves: int = 6,
        project_behind: bool = False,
        smooth_levels: bool = False,
        context_memory_mb: float = 2048.0,
        learned_weights: bool = False,
        source_colours: bool = False,
        preconditioned: bool = False,
    ) -> None:
        super().__init__()
        if preconditioned and not source_colours:
            raise ValueError("preconditioned needs source_colours, among which the target's come first")
        check_at_least(1, estimate_reduction=estimate_reduction, mlp_width=mlp_width, mlp_blocks=mlp_blocks)
        check_at_least(0, mlp_blocks_per_view=mlp_blocks_per_view, octaves=octaves)
        check_at_least(0, context_memory_mb=context_memory_mb)
        check_coarse_only(estimate_renderer)

        def mlp() -> RadianceMLP:
            return RadianceMLP(
                encoder.feature_channels,
                mlp_width,
                encoder.estimate_features,
                mlp_blocks,
                mlp_blocks_per_view,
                octaves,
                learned_weights,
                source_colours,
            )

        self.encoder = encoder
        self.estimate_renderer = estimate_renderer
        self.estimate_reduction = estimate_reduction
        self.project_behind = project_behind
        self.context_memory_mb = context_memory_mb
        self.deterministic_mlp = mlp()
        self.coarse_mlp = mlp()
        self.fine_mlp = mlp()
        self.linear = LinearEstimate() if source_colours else None
        self.preconditioned = preconditioned
        if preconditioned:
            for part in (self.deterministic_mlp, self.coarse_mlp, self.fine_mlp):
                part.make_opaque()
        if smooth_levels:
            embed_smoothly(self)

    def remembering(self) -> Callable[[RadianceField], RadianceField]:
        """See `SignalDenoiser`: the context views' share of the MLPs at coarse points is computed once."""
        if self.context_memory_mb == 0 or self.deterministic_mlp.view_weight is not None:
            return lambda field: field
        memory = ContextMemory(int(self.context_memory_mb * 2**20))
        return lambda field: RememberingField(field, memory) if isinstance(field, PixelNeRFField) else field

    def use_forward_model(self, forward_model: ForwardModel) -> None:
        """Adopt the forward model's conventions for the estimate. Raises `UserError` if they disagree."""
        if isinstance(forward_model, VolumeRendering):
            self.estimate_renderer.share(forward_model, "denoiser.estimate_renderer")

    def condition(self, context: Views, target_params: Cameras) -> PixelNeRFConditioning:
        """Encode the context, and render the deterministic estimate at the target's camera."""
        maps = self._encode_context(context)
        field = self._context_field(self.deterministic_mlp, self.deterministic_mlp, maps, context)
        rendered = self.estimate_renderer.observe(field, reduce_cameras(target_params, self.estimate_reduction))
        details = rendered.auxiliary
        estimate = torch.cat([rendered.observation, details.depth, details.features], dim=2)
        estimate = enlarge(estimate, self.estimate_reduction, self.estimate_renderer.corner_aligned)
        joint = self._context_field(self.coarse_mlp, self.fine_mlp, maps, context)
        return PixelNeRFConditioning(joint, target_params, estimate)

    def forward(
        self, noisy: Float[Tensor, "b 1 3 h w"], level: Level, conditioning: PixelNeRFConditioning
    ) -> PixelNeRFField | BlendedField:
        """Return the field of the context views and the noisy target view, in this order."""
        target = conditioning.target
        features = self.encoder.encode_target(
            noisy[:, 0], conditioning.estimate[:, 0], level, target.absolute_pose[:, 0]
        )
        field = self._field(self.coarse_mlp, self.fine_mlp, features[:, None], target, level[:, None])
        if self.linear is None:
            return concatenate([conditioning.context, field], dim=1)
        shown = self.linear(noisy[:, 0], level, conditioning.estimate[:, 0, :3])
        joint = concatenate([conditioning.context, BlendedField(field, _as_colours(shown[:, None]))], dim=1)
        return joint._replace(comes_first=self.preconditioned)

    def deterministic_field(self, context: Views) -> PixelNeRFField | BlendedField:
        """Return the scene as the context alone determines it: the field behind the deterministic estimate.

        Its one MLP serves coarse and fine samples alike.
        """
        maps = self._encode_context(context)
        return self._context_field(self.deterministic_mlp, self.deterministic_mlp, maps, context)

    def adopt_deterministic_mlp(self) -> None:
        """Initialise the joint field's MLPs with copies of the trained deterministic field's."""
        for mlp in (self.coarse_mlp, self.fine_mlp):
            mlp.load_state_dict(self.deterministic_mlp.state_dict())

    def _encode_context(self, context: Views) -> Float[Tensor, "b v h w f"]:
        images = context.observation
        maps = self.encoder.encode_context(images.flatten(0, 1), context.params.absolute_pose.flatten(0, 1))
        return maps.unflatten(0, images.shape[:2])

    def _context_field(
        self, coarse: RadianceMLP, fine: RadianceMLP, maps: Float[Tensor, "b v h w f"], context: Views
    ) -> PixelNeRFField | BlendedField:
        """Return a field of the context's views, with their images where points choose among them."""
        field = self._field(coarse, fine, maps, context.params)
        return field if self.linear is None else BlendedField(field, _as_colours(context.observation))

    def _field(
        self,
        coarse: RadianceMLP,
        fine: RadianceMLP,
        maps: Float[Tensor, "b v h w f"],
        cameras: Cameras,
        level: Int[Tensor, "b v"] | None = None,
    ) -> PixelNeRFField:
        """Return a field of views at the given diffusion levels; of clean views (level 0) without them."""
        if level is None:
            level = torch.zeros(maps.shape[:2], dtype=torch.long, device=maps.device)
        cameras = self.estimate_renderer.aligned(cameras)
        return pixelnerf_field(coarse, fine, maps, cameras, level, self.project_behind)


def _as_colours(images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v h w 3"]:
    """Return images in [-1, 1] as colours in [0, 1]."""
    return (images.movedim(2, -1) * 0.5 + 0.5).clamp(0, 1)
