"""A denoiser that lifts views into a small volume, and lets a 3D network see the scene as a whole."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dfm_lightning.denoisers.look_guidance import LookGuidance
from dfm_lightning.denoisers.rendered_estimate import check_coarse_only, rendered_estimate
from dfm_lightning.denoisers.view_denoiser import LEVEL_CHANNELS
from dfm_lightning.denoisers.view_lifting import PALETTE, ViewLifting, VolumeConditioning
from dfm_lightning.denoisers.visibility import Visibility, visibility
from dfm_lightning.denoisers.volume_field import HiddenPart, VolumeField, lifted_views
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.volume_rendering import VolumeRendering
from dfm_lightning.geometry.scene_grids import SceneGrid
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.networks.dit import zero_parameters
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


class VolumeDenoiser(ViewLifting):
    """A radiance field from a volume that a 3D U-Net makes of the views lifted into it.

    A 2D U-Net gives each view a feature map, and estimates the clean image of the noisy target. The maps are read
    where the cells of a grid project. What the context's views show there (mean and variance), what the target
    shows, and the cell's place go through a 3D U-Net, which knows the diffusion level and a summary of the
    context's colours. Points read the volume and the views (see `PointDecoder`). Without a target, the same
    networks give the deterministic estimate of the scene; training leaves the target out at random to teach that.

    Nearest relatives: Viewset Diffusion (Szymanowicz et al. 2023), whose volume is diffused with the views.

    Args:
        grid: where the volume lies in the scene.
        resolution: cells along the sides of the volume, multiples of 2^(number of volume widths − 1); one number,
            or three: along x, y and z.
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
        hidden_colours: number of colours that are decided for all that the context does not show (see
            `HiddenLook`), and that points choose which no view of the context sees; needs `estimate_renderer`.
        warm_start_noises: noises that each image is given in an iteration of the warm start. A further noise costs
            an evaluation of the 2D network, a further image its estimate too.
        image_noises: noises that each target and novel image is given for the 2D network in every iteration after
            the warm start, beside the one noise of the target that the volume sees. The 2D network decides what
            is hidden, and one image of a scene is little to learn that from. 0 for none, as for a student of
            another model, whose targets are not clean images (see `ProgressiveDistillation`).
        unmixed_looks: the averages from which hidden colours are decided count as mixtures with what is beside the
            hidden part (see `HiddenLook`), as they are where outlines are vague. A model that was trained without
            goes on as it was, with `new_parts`. Needs `hidden_colours`.
        look_guidance: decides hidden colours more firmly, in sampling; with a scale for each of the
            `hidden_colours`. None if null.
    """

    decided_by_run = frozenset({"look_guidance"})
    without_effect = frozenset({"target_dropout", "image_weight", "warm_start_noises", "image_noises"})

    def __init__(
        self,
        grid: SceneGrid,
        resolution: int | list[int] = 24,
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
        hidden_colours: int = 0,
        warm_start_noises: int = 1,
        image_noises: int = 0,
        unmixed_looks: bool = False,
        look_guidance: LookGuidance | None = None,
    ) -> None:
        image_widths = image_widths or [32, 64, 96]
        estimated = estimate_renderer is not None
        check_at_least(0, image_weight=image_weight, scene_colours=scene_colours, hidden_colours=hidden_colours)
        check_at_least(0, image_noises=image_noises)
        if hidden_colours and not estimated:
            raise ValueError("hidden_colours needs an estimate_renderer, which shows where they are")
        if unmixed_looks and not hidden_colours:
            raise ValueError("unmixed_looks needs hidden_colours, whose averages it is about")
        if look_guidance is not None and len(look_guidance.scales) != hidden_colours:
            raise ValueError(
                f"look_guidance needs a scale for each of {hidden_colours} hidden_colours, got "
                f"{len(look_guidance.scales)}"
            )
        super().__init__(
            grid,
            resolution,
            features,
            image_widths,
            lifted_channels,
            condition_width,
            blurred_inputs,
            estimated,
            hidden_colours,
            unmixed_looks,
        )
        check_below_one(target_dropout=target_dropout)
        check_at_least(1, estimate_reduction=estimate_reduction, warm_start_noises=warm_start_noises)
        if estimate_renderer is not None:
            check_coarse_only(estimate_renderer)
        check_at_least(
            1, volume_channels=volume_channels, decoder_width=decoder_width, volume_widths=volume_widths
        )
        self.target_dropout = target_dropout
        self.image_weight = image_weight
        self.estimate_renderer = estimate_renderer
        self.estimate_reduction = estimate_reduction
        self.warm_start_noises = warm_start_noises
        self.image_noises = image_noises
        self.look_guidance = look_guidance
        volume_widths = volume_widths or [24, 48, 96]
        self.unet = UNet(3, 3 * lifted_channels + 6, volume_channels, volume_widths, condition_width)
        if min(self.sides) < 2 or any(side % self.unet.factor for side in self.sides):
            raise ValueError(f"resolution must be a multiple of {self.unet.factor}, got {resolution}")
        self.decoder = PointDecoder(
            volume_channels,
            features,
            LEVEL_CHANNELS,
            PALETTE,
            decoder_width,
            scene_colours,
            hidden_colours,
        )
        self.hidden_cells: nn.Linear | None = None
        if hidden_colours:
            self.hidden_cells = nn.Linear(1, volume_widths[0], bias=False)
            zero_parameters(self.hidden_cells)
        self.whole: SceneSummary | None = None
        if scene_colours:
            widths = image_widths[-1], volume_widths[-1]
            self.whole = SceneSummary(*widths, condition_width, decoder_width, scene_colours)
        self.summary_of_points = nn.Linear(condition_width, decoder_width)

    def use_forward_model(self, forward_model: ForwardModel) -> None:
        """Adopt the forward model's conventions for the estimate. Raises `UserError` if they disagree."""
        if self.estimate_renderer is not None and isinstance(forward_model, VolumeRendering):
            self.estimate_renderer.share(forward_model, "denoiser.estimate_renderer")

    def check_taught(self) -> None:
        """Refuse `image_noises`, which would noise a teacher's targets again."""
        if self.image_noises:
            raise UserError(
                "a student's targets are not clean images, which image_noises would noise: set "
                "model.denoiser.image_noises to 0"
            )

    def condition(self, context: Views, target_params: Cameras) -> VolumeConditioning:
        """Encode the context, lift it into the grid, and render the estimate at the target's camera."""
        conditioning = self._lift_context(context, target_params)
        if self.estimate_renderer is None:
            return conditioning
        with torch.no_grad():
            field = self._without_target(conditioning)
            estimate = self._rendered(field, target_params)
            hidden = None if field.hidden is None else field.hidden.share(conditioning.points, field.views)
        places = None if self.look is None else self.look.places(estimate[:, 0], conditioning.summary)
        return conditioning._replace(estimate=estimate, hidden=hidden, places=places)

    @torch.no_grad()
    def _visibility(self, field: VolumeField, conditioning: VolumeConditioning) -> Visibility | None:
        """Return how much the context sees through the density of a field, so that its surfaces count as seen."""
        renderer = self.estimate_renderer
        if self.look is None or renderer is None:
            return None
        density = field.query(conditioning.points, "coarse").density
        cubes, views = self._as_cubes(density[..., None])[:, 0], conditioning.views
        cameras = views.world_to_camera, views.intrinsics
        return visibility(cubes, conditioning.frame, *cameras, renderer.near, renderer.far)

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
        clean = batch.target.observation[:, 0]
        error = self._image_error(signal.views.maps[:, -1], clean, level)
        losses = {"image": LossTerm((error * signal.views.present[:, -1]).mean(), self.image_weight)}
        if conditioning.estimate is not None and conditioning.places is not None:
            painted = self._look_error(
                clean, conditioning.summary, conditioning.estimate[:, 0], conditioning.places
            )
            losses["look"] = LossTerm(painted, self.image_weight)
        if self.image_noises:
            views, estimate = concatenate([batch.target, batch.novel], dim=1), None
            if self.estimated is not None:
                estimate = self._estimate(conditioning, views.params)
            errors = self._errors_of_noised(views.observation, conditioning.summary, estimate, self.image_noises)
            losses["images"] = LossTerm(errors["image"], self.image_weight)
        return losses

    def warm_start_losses(self, batch: Batch) -> dict[str, LossTerm]:
        """Return the squared errors of the 2D estimates of all target and novel images, each noised on its own.

        The painted estimates have one of their own, if there are any.

        The volume learns nothing from it, and renders at most the estimates that the 2D network sees (see
        `estimate_renderer`): per iteration, that network sees many times the images.
        """
        views, estimate = concatenate([batch.target, batch.novel], dim=1), None
        if self.estimated is not None:
            estimate = self.estimate(batch.context, views.params)
        summary = self._coarse(batch.context.observation)[1]
        errors = self._errors_of_noised(views.observation, summary, estimate, self.warm_start_noises)
        return {name: LossTerm(error, 1.0) for name, error in errors.items()}

    # --- parts ------------------------------------------------------------------------------------------

    def _with_guided_look(
        self,
        guidance: LookGuidance,
        maps: Float[Tensor, "b h w f"],
        noise_rate: Float[Tensor, " b"],
        conditioning: VolumeConditioning,
    ) -> Float[Tensor, "b h w f"]:
        """Replace the colours of the target's map by guided ones."""
        assert conditioning.estimate is not None
        assert conditioning.places is not None
        guided = guidance(maps[..., -3:], noise_rate, conditioning.estimate[:, 0], conditioning.places)
        return torch.cat([maps[..., :-3], guided], dim=-1)

    def _hidden_cells(
        self, conditioning: VolumeConditioning, present: Bool[Tensor, " b"]
    ) -> Float[Tensor, "b c d h w"] | None:
        """Return features of what the context does not see of the cells, for the 3D U-Net; of decided scenes."""
        if self.hidden_cells is None or conditioning.hidden is None:
            return None
        return self._as_cubes(self.hidden_cells(conditioning.hidden * present[:, None, None]))

    @torch.no_grad()
    def estimate(self, context: Views, cameras: Cameras) -> Float[Tensor, "b v e h w"]:
        """Render the scene without a target as the 2D network sees it, without gradients.

        Needs an `estimate_renderer`.
        """
        return self._estimate(self._lift_context(context, select_views(context.params, slice(1))), cameras)

    @torch.no_grad()
    def _estimate(self, conditioning: VolumeConditioning, cameras: Cameras) -> Float[Tensor, "b v e h w"]:
        """See `estimate`, of a context that has been lifted already."""
        return self._rendered(self._without_target(conditioning), cameras)

    def _rendered(self, field: VolumeField, cameras: Cameras) -> Float[Tensor, "b v e h w"]:
        assert self.estimate_renderer is not None
        return rendered_estimate(
            self.estimate_renderer, field, cameras, self.estimate_reduction, self.grid.distance
        )

    def _without_target(self, conditioning: VolumeConditioning) -> VolumeField:
        """Return the scene as the context alone determines it."""
        scenes, _, height, width, _ = conditioning.views.maps.shape
        like = conditioning.views.maps
        absent = torch.zeros(scenes, dtype=torch.bool, device=like.device)
        rates = like.new_zeros(scenes), like.new_ones(scenes)
        # Its own rendering, and what follows from it, are no part of it.
        conditioning = conditioning._replace(estimate=None, hidden=None, places=None)
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
        look = None
        if self.look is not None and estimate is not None and conditioning.places is not None:
            look = self.look(noisy, signal_rate, noise_rate, estimate, conditioning.summary, conditioning.places)
            estimate = torch.cat([look.painted, estimate[:, 3:]], dim=1)
            condition = condition + self._of_look(look) * present[:, None]
        maps, encoded = self._encode(noisy, signal_rate, noise_rate, condition, estimate)
        if self.look_guidance is not None and look is not None and not self.training:
            maps = self._with_guided_look(self.look_guidance, maps, noise_rate, conditioning)
        told = self.level_of_view(level)
        own = lifted_views(conditioning.target, maps[:, None], told[:, None], present[:, None])
        target = self._seen_from(conditioning.points, own)[:, 0]
        places = self.cells * 2 - 1
        places = torch.cat([places, places.square()], dim=-1).expand(len(noisy), -1, -1)
        cells = self._as_cubes(torch.cat([conditioning.lifted, target, places], dim=-1))
        views = concatenate([conditioning.views, own], dim=1)
        of_points, palette = self.summary_of_points(conditioning.summary), conditioning.palette
        whole, beside = None, self._hidden_cells(conditioning, present)
        if self.whole is not None:
            whole = self.whole.vector(conditioning.encoded, encoded * present[:, None], condition)
            condition = condition + self.whole.to_condition(whole)
        volume, summary = self.unet.with_summary(cells, condition, beside)
        if self.whole is not None and whole is not None:
            of_points = of_points + self.whole.to_points(whole)
            palette = torch.cat([palette, self.whole.colours(whole, summary.float())], dim=1)
        field = VolumeField(
            conditioning.frame,
            volume.movedim(1, -1),
            views,
            of_points,
            palette,
            self.decoder,
            self.grid.distance,
        )
        seen = self._visibility(field, conditioning)
        if self.look is None or seen is None:
            return field
        colours = palette.new_zeros(len(noisy), self.look.looks, 3) if look is None else look.colours
        palette = torch.cat([palette, (colours * 0.5 + 0.5).clamp(0, 1)], dim=1)
        return field._replace(palette=palette, hidden=HiddenPart(seen, present & (look is not None)))
