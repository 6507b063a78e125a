"""A denoiser that lifts views into a small volume, and lets a 3D network see the scene as a whole."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.denoisers.rendered_estimate import check_coarse_only, rendered_estimate
from dfm_lightning.denoisers.view_denoiser import LEVEL_CHANNELS, ViewDenoiser
from dfm_lightning.denoisers.volume_field import LiftedViews, VolumeField, lifted_views
from dfm_lightning.forward_models.volume_rendering import VolumeRendering
from dfm_lightning.geometry.scene_grids import GridFrame, SceneGrid
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.networks.point_decoder import PointDecoder
from dfm_lightning.networks.scene_summary import SceneSummary
from dfm_lightning.networks.unet import UNet
from dfm_lightning.ranges import check_at_least, check_below_one
from dfm_lightning.signals import RadianceField
from dfm_lightning.types import (
    Batch,
    Cameras,
    Level,
    LossTerm,
    Views,
    concatenate,
    select_views,
)

# Side of the coarse images whose colours make up the palette.
_PALETTE_SIDE = 4


class VolumeConditioning(NamedTuple):
    """The denoiser's conditioning, computed once for a sampling run.

    `points` are the cells of the grid in the scene; `lifted` holds mean and variance over the context views of
    what each of them sees there, `encoded` the mean of the encoder's summaries of them. `estimate` is None if the
    denoiser does not use it.
    """

    frame: GridFrame
    points: Float[Tensor, "b n 3"]
    views: LiftedViews
    target: Cameras
    lifted: Float[Tensor, "b n c"]
    encoded: Float[Tensor, "b e"]
    summary: Float[Tensor, "b s"]
    palette: Float[Tensor, "b p 3"]
    estimate: Float[Tensor, "b 1 e h w"] | None = None


class VolumeDenoiser(ViewDenoiser[VolumeConditioning]):
    """A radiance field from a volume that a 3D U-Net makes of the views lifted into it.

    A 2D U-Net gives each view a feature map, and estimates the clean image of the noisy target. The maps are read
    where the cells of a grid project. What the context's views show there (mean and variance), what the target
    shows, and the cell's place go through a 3D U-Net, which knows the diffusion level and a summary of the
    context's colours. Points read the volume and the views (see `PointDecoder`). Without a target, the same
    networks give the deterministic estimate of the scene; training leaves the target out at random to teach that.

    Nearest relatives: Viewset Diffusion (Szymanowicz et al. 2023), whose volume is diffused with the views.

    Args:
        grid: where the volume lies in the scene.
        resolution: cells along a side of the volume; a multiple of 2^(number of volume widths − 1).
        features: channels of the feature maps.
        image_widths: channels of the 2D U-Net at each resolution; images' sides must be multiples of
            2^(their number − 1).
        lifted_channels: channels of what a cell sees in a view.
        volume_widths: channels of the 3D U-Net at each resolution.
        volume_channels: channels of the volume.
        decoder_width: length of the hidden vectors of the points' MLP.
        condition_width: length of the vectors that condition the U-Nets.
        target_dropout: probability that a scene of a training batch is predicted without its noisy target.
        blurred_inputs: let the 2D U-Net see the noisy image at lower resolutions beside the image itself. Their
            noise is averaged, so that a colour too faint for a pixel can be read off a region.
        scene_colours: number of colours of the scene as a whole, among which its points choose (see
            `SceneSummary`); with 0, points know no more of the target than the volume.
        image_weight: weight of the squared error of the target's 2D estimate, in units of what is left to estimate
            (EDM's λ), at most 12.5 times itself.
        estimate_renderer: renders the deterministic estimate at the target's camera for the 2D network, which
            then knows what the context says about each pixel; without fine samples. Its near, far, background and
            corner_aligned are the forward model's where they are null. If null, the network has no estimate.
        estimate_reduction: the estimate is rendered at 1/this of the target's resolution and enlarged.
    """

    without_effect = frozenset({"target_dropout", "image_weight"})

    cells: Float[Tensor, "n 3"]

    def __init__(
        self,
        grid: SceneGrid,
        resolution: int = 24,
        features: int = 16,
        image_widths: list[int] | None = None,
        lifted_channels: int = 24,
        volume_widths: list[int] | None = None,
        volume_channels: int = 16,
        decoder_width: int = 32,
        condition_width: int = 128,
        target_dropout: float = 0.1,
        image_weight: float = 0.5,
        scene_colours: int = 0,
        blurred_inputs: bool = False,
        estimate_renderer: VolumeRendering | None = None,
        estimate_reduction: int = 1,
    ) -> None:
        image_widths = image_widths or [32, 64, 96]
        check_at_least(1, features=features, condition_width=condition_width, image_widths=image_widths)
        estimated = estimate_renderer is not None
        super().__init__(features, image_widths, condition_width, blurred_inputs, estimated)
        check_below_one(target_dropout=target_dropout)
        check_at_least(0, image_weight=image_weight, scene_colours=scene_colours)
        check_at_least(1, estimate_reduction=estimate_reduction)
        if estimate_renderer is not None:
            check_coarse_only(estimate_renderer)
        check_at_least(1, lifted_channels=lifted_channels, volume_channels=volume_channels)
        check_at_least(1, resolution=resolution, decoder_width=decoder_width, volume_widths=volume_widths)
        self.grid = grid
        self.resolution = resolution
        self.target_dropout = target_dropout
        self.image_weight = image_weight
        self.estimate_renderer = estimate_renderer
        self.estimate_reduction = estimate_reduction
        self.lift = nn.Linear(features + 3 + 2, lifted_channels)
        volume_widths = volume_widths or [24, 48, 96]
        self.unet = UNet(3, 3 * lifted_channels + 6, volume_channels, volume_widths, condition_width)
        if resolution < 2 or resolution % self.unet.factor:
            raise ValueError(f"resolution must be a multiple of {self.unet.factor}, got {resolution}")
        self.decoder = PointDecoder(
            volume_channels, features, LEVEL_CHANNELS, _PALETTE_SIDE**2, decoder_width, scene_colours
        )
        self.whole: SceneSummary | None = None
        if scene_colours:
            widths = image_widths[-1], volume_widths[-1]
            self.whole = SceneSummary(*widths, condition_width, decoder_width, scene_colours)
        colours = 3 * _PALETTE_SIDE**2
        self.summary = nn.Sequential(
            nn.Linear(colours, condition_width), nn.SiLU(), nn.Linear(condition_width, condition_width)
        )
        self.summary_of_points = nn.Linear(condition_width, decoder_width)
        ticks = (torch.arange(resolution) + 0.5) / resolution
        z, y, x = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
        self.register_buffer("cells", torch.stack([x, y, z], dim=-1).view(-1, 3), persistent=False)

    def use_forward_model(self, forward_model: ForwardModel) -> None:
        """Adopt the forward model's conventions for the estimate. Raises `UserError` if they disagree."""
        if self.estimate_renderer is not None and isinstance(forward_model, VolumeRendering):
            self.estimate_renderer.share(forward_model, "denoiser.estimate_renderer")

    def condition(self, context: Views, target_params: Cameras) -> VolumeConditioning:
        """Encode the context, lift it into the grid, and render the estimate at the target's camera."""
        conditioning = self._lift_context(context, target_params)
        return conditioning._replace(estimate=self._estimate(conditioning, target_params))

    def _lift_context(self, context: Views, target_params: Cameras) -> VolumeConditioning:
        images = context.observation
        scenes, views = images.shape[:2]
        coarse, summary = self._coarse(images)
        clean = images.new_ones(scenes * views), images.new_zeros(scenes * views)
        level = self._level_condition(*clean)
        condition = level + summary.repeat_interleave(views, dim=0)
        maps, encoded = self._encode(images.flatten(0, 1), *clean, condition)
        present = torch.ones(scenes, views, dtype=torch.bool, device=images.device)
        maps, told = (part.unflatten(0, (scenes, views)) for part in (maps, self.level_of_view(level)))
        shown = lifted_views(context.params, maps, told, present)
        frame = self.grid.frame(context.params)
        points = frame.points(self.cells.expand(scenes, -1, -1))
        each = self._seen_from(points, shown)
        mean = each.mean(dim=1)
        lifted = torch.cat([mean, (each - mean[:, None]).square().mean(dim=1)], dim=-1)
        palette = coarse[:, 0].flatten(2).mT * 0.5 + 0.5
        encoded = encoded.unflatten(0, (scenes, views)).mean(dim=1)
        return VolumeConditioning(frame, points, shown, target_params, lifted, encoded, summary, palette)

    def forward(
        self, noisy: Float[Tensor, "b 1 3 h w"], level: Level, conditioning: VolumeConditioning
    ) -> VolumeField:
        """Return the field of the context views and the noisy target view, which comes last."""
        present = torch.ones(len(noisy), dtype=torch.bool, device=noisy.device)
        if self.training and self.target_dropout > 0:
            present = (torch.rand(len(noisy)) >= self.target_dropout).to(noisy.device)
        return self._field(noisy[:, 0], self._rates(level), present, conditioning)

    def deterministic_field(self, context: Views) -> VolumeField:
        """Return the scene as the context alone determines it: the same networks without a target."""
        return self._without_target(self._lift_context(context, select_views(context.params, slice(1))))

    def auxiliary_losses(
        self, batch: Batch, level: Level, conditioning: VolumeConditioning, signal: RadianceField
    ) -> dict[str, LossTerm]:
        """Compute the squared error of the target's 2D estimate, if there is a target.

        Its weight is 1/out² (see `preconditioning`), up to a factor. The network's task is then the same at all
        levels, and it removes weak noise as faithfully as strong noise.
        """
        assert isinstance(signal, VolumeField)  # as `forward` returns it
        if self.image_weight == 0:
            return {}
        error = self._image_error(signal.views.maps[:, -1], batch.target.observation[:, 0], level)
        return {"image": LossTerm((error * signal.views.present[:, -1]).mean(), self.image_weight)}

    def warm_start_losses(self, batch: Batch) -> dict[str, LossTerm]:
        """Return the squared error of the 2D estimates of all target and novel images, each noised by itself.

        The volume learns nothing from it, and renders at most the estimates that the 2D network sees (see
        `estimate_renderer`): per iteration, that network sees many times the images.
        """
        views = concatenate([batch.target, batch.novel], dim=1)
        estimate = None
        if self.estimated is not None:
            with torch.no_grad():
                estimate = self._estimate(self._lift_context(batch.context, batch.target.params), views.params)
        summary = self._coarse(batch.context.observation)[1]
        return {"image": LossTerm(self._error_of_noised(views.observation, summary, estimate), 1.0)}

    # --- parts ------------------------------------------------------------------------------------------

    def _coarse(
        self, images: Float[Tensor, "b v 3 h w"]
    ) -> tuple[Float[Tensor, "b v 3 p p"], Float[Tensor, "b s"]]:
        """Return the context's images at a few pixels, and a vector of their colours."""
        coarse = F.adaptive_avg_pool2d(images.flatten(0, 1), _PALETTE_SIDE).unflatten(0, images.shape[:2])
        return coarse, self.summary(coarse.flatten(2)).mean(dim=1)

    def _seen_from(self, points: Float[Tensor, "b n 3"], views: LiftedViews) -> Float[Tensor, "b v n c"]:
        """Read each view at each cell of the grid; zero where a view does not show it."""
        shown = views.at(points, self.grid.distance)
        seen = shown.seen[..., None]
        parts = [shown.features, shown.colour, shown.depth, seen.to(shown.depth.dtype)]
        return F.relu(self.lift(torch.cat(parts, dim=-1))) * seen

    @torch.no_grad()
    def _estimate(self, conditioning: VolumeConditioning, cameras: Cameras) -> Float[Tensor, "b v e h w"] | None:
        """Render the scene without a target for the 2D network, if that is to see it; without gradients."""
        if self.estimate_renderer is None:
            return None
        field = self._without_target(conditioning)
        return rendered_estimate(
            self.estimate_renderer, field, cameras, self.estimate_reduction, self.grid.distance
        )

    def _without_target(self, conditioning: VolumeConditioning) -> VolumeField:
        """Return the scene as the context alone determines it."""
        scenes, _, height, width, _ = conditioning.views.maps.shape
        like = conditioning.views.maps
        absent = torch.zeros(scenes, dtype=torch.bool, device=like.device)
        rates = like.new_zeros(scenes), like.new_ones(scenes)
        return self._field(like.new_zeros(scenes, 3, height, width), rates, absent, conditioning)

    def _field(
        self,
        noisy: Float[Tensor, "b 3 h w"],
        rates: tuple[Float[Tensor, " b"], Float[Tensor, " b"]],
        present: Bool[Tensor, " b"],
        conditioning: VolumeConditioning,
    ) -> VolumeField:
        """Return the field of the context and the target; an absent target counts as pure noise."""
        signal_rate, noise_rate = rates
        signal_rate, noise_rate = signal_rate * present, torch.where(present, noise_rate, 1.0)
        level = self._level_condition(signal_rate, noise_rate)
        condition = level + conditioning.summary
        estimate = None if conditioning.estimate is None else conditioning.estimate[:, 0]
        maps, encoded = self._encode(noisy, signal_rate, noise_rate, condition, estimate)
        told = self.level_of_view(level)
        own = lifted_views(conditioning.target, maps[:, None], told[:, None], present[:, None])
        target = self._seen_from(conditioning.points, own)[:, 0]
        places = self.cells * 2 - 1
        places = torch.cat([places, places.square()], dim=-1).expand(len(noisy), -1, -1)
        cells = torch.cat([conditioning.lifted, target, places], dim=-1)
        side = self.resolution
        cells = cells.mT.reshape(len(noisy), -1, side, side, side)
        views = concatenate([conditioning.views, own], dim=1)
        of_points, palette = self.summary_of_points(conditioning.summary), conditioning.palette
        if self.whole is None:
            volume = self.unet(cells, condition)
        else:
            whole = self.whole.vector(conditioning.encoded, encoded * present[:, None], condition)
            condition = condition + self.whole.to_condition(whole)
            volume, summary = self.unet.with_summary(cells, condition)
            of_points = of_points + self.whole.to_points(whole)
            palette = torch.cat([palette, self.whole.colours(whole, summary.float())], dim=1)
        return VolumeField(
            conditioning.frame,
            volume.movedim(1, -1),
            views,
            of_points,
            palette,
            self.decoder,
            self.grid.distance,
        )
