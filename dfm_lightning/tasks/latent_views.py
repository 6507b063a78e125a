"""Novel views by a latent diffusion model that is conditioned on epipolar features (VLDM)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.diffusion import AncestralSteps, LogSNRCosine, add_noise, falling_times
from dfm_lightning.errors import UserError
from dfm_lightning.losses.noise_error import noise_error
from dfm_lightning.networks.epipolar import ContextMaps, EpipolarFeatures, EpipolarTransformer
from dfm_lightning.networks.latent_codec import LatentCodec
from dfm_lightning.networks.latent_unet import LatentUNet
from dfm_lightning.optimizers import OptimizerChoice
from dfm_lightning.randomness import named_noise
from dfm_lightning.ranges import check_above, check_at_least, check_within
from dfm_lightning.tasks.epipolar_views import ColourLoss, EpipolarViews
from dfm_lightning.tasks.scenes import RenderedViews
from dfm_lightning.types import Batch, Cameras, LossTerm, Request, Views

# Standard deviation of the noise added to latents while a codec learns; latents grow until it matters little.
_LATENT_NOISE = 0.1
# Latents of which more than this share lies in the picture that a view is cropped from are learnt.
_LEAST_INSIDE = 0.6


class LatentViews(EpipolarViews):
    """Samples views from a diffusion model of latents; each view by itself (thesis, 4.3).

    Trained jointly with the epipolar transformer: the diffusion loss trains the network and the transformer's
    features, the colour loss its colours. Views of one scene are samples of their own, and need not agree.

    Args:
        transformer: see `EpipolarViews`.
        unet: predicts the noise in latents.
        codec: between images and latents; never trained, or at the beginning only (`codec_steps`).
        process: the noising of latents.
        optimizer: see `EpipolarViews`, as for all up to `least_contexts`.
        rays: side of the feature grid, which is that of the latents.
        rays_at_corners: whether the outermost rays go through the image's outermost pixels.
        colour_loss: of the transformer's colours.
        least_contexts: least number of context views in training.
        copies: how often a latent is noised in a training step, each at its own time.
        snr_weighting: whether the diffusion loss is weighted by (1 + SNR)^−½, as in the code; not in the thesis.
        condition_dropout: probability that a copy's features are replaced by zeros in training.
        guidance_scale: classifier-free guidance in sampling; 1 is none.
        codec_steps: steps at the beginning that train a codec which learns, and the transformer's colours, alone.
            Afterwards its encoder is fixed, and only its decoder learns further. 0: it is not trained.
        sampling_steps: ancestral steps of a sampled view.
        clip: estimates of clean latents are clipped to ± this in sampling.
        samples: number of draws in test and predict.
        draw_batch: see `PredictingModule`.
    """

    fixed_by_checkpoint = frozenset({"unet", "codec"})
    without_effect = frozenset({"copies", "snr_weighting", "condition_dropout", "codec_steps"})

    def __init__(
        self,
        transformer: EpipolarTransformer,
        unet: LatentUNet,
        codec: LatentCodec,
        process: LogSNRCosine | None = None,
        optimizer: OptimizerChoice | None = None,
        rays: int = 32,
        rays_at_corners: bool = False,
        colour_loss: ColourLoss = "charbonnier",
        least_contexts: int = 1,
        copies: int = 1,
        snr_weighting: bool = True,
        condition_dropout: float = 0.1,
        guidance_scale: float = 1.0,
        codec_steps: int = 0,
        sampling_steps: int = 500,
        clip: float = 10.0,
        samples: int = 1,
        draw_batch: int = 1,
    ) -> None:
        super().__init__(
            transformer, optimizer, rays, rays_at_corners, colour_loss, least_contexts, samples, draw_batch
        )
        check_at_least(1, copies=copies, sampling_steps=sampling_steps)
        check_at_least(0, guidance_scale=guidance_scale, codec_steps=codec_steps)
        check_within(0, 1, condition_dropout=condition_dropout)
        check_above(0, clip=clip)
        if (unet.condition_channels, unet.latent_channels) != (transformer.width, codec.channels):
            raise UserError(
                f"the U-Net expects {unet.condition_channels} channels of features and {unet.latent_channels} of "
                f"latents, but the transformer gives {transformer.width} and the codec {codec.channels}"
            )
        self.unet = unet
        self.codec = codec
        self.process = process or LogSNRCosine()
        self.copies = copies
        self.snr_weighting = snr_weighting
        self.condition_dropout = condition_dropout
        self.guidance_scale = guidance_scale
        self.codec_steps = codec_steps
        self.sampling_steps = sampling_steps
        self.clip = clip

    # --- training ---------------------------------------------------------------------------------------

    @property
    def trains_codec(self) -> bool:
        """Tell whether training trains the codec too."""
        return self.codec.learns and self.codec_steps > 0

    @property
    def learns_codec(self) -> bool:
        """Tell whether training is still in the steps that train the codec."""
        return self.trains_codec and self.training and self.global_step < self.codec_steps

    def losses(self, batch: Batch) -> dict[str, LossTerm]:
        """Compute the codec's or the diffusion's loss, and that of the transformer's colours."""
        targets = self.ray_targets(batch.target)
        cameras, images = batch.target.params, batch.target.observation[:, 0]
        maps = self.transformer.encode(batch.context)
        found = self.transformer(maps, cameras.camera_to_world[:, 0], cameras.intrinsics[:, 0], targets.pixels)
        terms = {"colour": LossTerm(self.colour_error(found.colour, targets.colour), 1.0)}
        if self.learns_codec:
            shown = torch.cat([images, batch.context.observation.flatten(0, 1)])
            terms["codec"] = LossTerm(self.codec_error(self.codec.encode(shown), shown), 1.0)
            return {**terms, "diffusion": LossTerm(_without_gradient(self.unet), 0.0)}
        with torch.no_grad():
            latents = self.encode(images)
        inside = _inside_picture(batch, latents)
        terms["diffusion"] = LossTerm(self.diffusion_loss(latents, self.as_grid(found), inside), 1.0)
        if self.codec.learns:
            rest = _without_gradient(self.codec)
            error = self.codec_error(latents, images) if self.trains_codec else 0.0
            terms["codec"] = LossTerm(error + rest, 1.0)
        return terms

    def codec_error(
        self, latents: Float[Tensor, "b c h w"], images: Float[Tensor, "b 3 hi wi"]
    ) -> Float[Tensor, ""]:
        """Compute the absolute error of images decoded from latents with a little noise, as sampling leaves it."""
        noisy = latents + _LATENT_NOISE * torch.randn_like(latents)
        return (self.codec.decode(noisy) - images).abs().mean()

    def diffusion_loss(
        self,
        latents: Float[Tensor, "b c h w"],
        features: Float[Tensor, "b f h w"],
        inside: Float[Tensor, "b 1 h w"] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute the squared error of predicted noise, each latent noised at several times.

        Where `inside` is 0 the error counts as 0.
        """
        latents, features = (part.repeat_interleave(self.copies, dim=0) for part in (latents, features))
        inside = None if inside is None else inside.repeat_interleave(self.copies, dim=0)
        time = self.process.training_levels(len(latents)).to(latents) / self.process.levels
        noise = torch.randn_like(latents)
        kept = (torch.rand(len(latents), device=latents.device) >= self.condition_dropout).to(features)
        noisy = add_noise(self.process, latents, noise, time)
        log_snr = self.process.log_snr(time)
        found = self.unet(noisy, features * kept.view(-1, 1, 1, 1), log_snr)
        return noise_error(found, noise, log_snr if self.snr_weighting else None, inside)

    # --- sampling ---------------------------------------------------------------------------------------

    def as_grid(self, found: EpipolarFeatures) -> Float[Tensor, "b f h w"]:
        """Compute the features of the coarse grid's rays as a map."""
        return found.features.mT.unflatten(2, (self.rays, self.rays))

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c hl wl"]:
        """Encode images in [-1, 1]. Raises UserError if latents are not as large as the feature grid."""
        expected = self.rays * self.codec.factor
        if tuple(images.shape[-2:]) != (expected, expected):
            raise UserError(
                f"images are {images.shape[-2]}×{images.shape[-1]} pixels, but {self.rays}×{self.rays} latents of "
                f"a codec that reduces by {self.codec.factor} are of {expected}×{expected}: set data.image_size"
            )
        return self.codec.encode(images)

    def predict_noise(
        self, noisy: Float[Tensor, "b c h w"], features: Float[Tensor, "b f h w"], time: Float[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """Predict the noise at times from 0 to 1, guided if `guidance_scale` is not 1."""
        log_snr = self.process.log_snr(time)
        found = self.unet(noisy, features, log_snr)
        if self.guidance_scale == 1:
            return found
        free = self.unet(noisy, torch.zeros_like(features), log_snr)
        return free + self.guidance_scale * (found - free)

    def view_features(self, maps: ContextMaps, cameras: Cameras, view: int, size: int) -> EpipolarFeatures:
        """Predict the coarse grid's rays of one of the cameras, for images of `size` pixels a side."""
        grid = self.grid_pixels(maps.images.new_zeros(len(maps.images), 3, size, size))
        return self.features(maps, cameras, view, grid)

    def sample_view(
        self, features: Float[Tensor, "1 f h w"], name: tuple[str | int, ...]
    ) -> Float[Tensor, "1 3 hi wi"]:
        """Sample one view by ancestral steps from pure noise; in [-1, 1]."""
        shape = (self.codec.channels, *features.shape[-2:])
        drawn = 0

        def draw_noise() -> Tensor:
            nonlocal drawn
            drawn += 1
            return named_noise([(*name, drawn)], shape, features.device).to(features)

        def predict(noisy: Tensor, time: Tensor) -> Tensor:
            return self.predict_noise(noisy, features, time)

        steps = AncestralSteps(self.process, draw_noise, self.clip)
        latents = steps.sample(predict, draw_noise(), falling_times(1.0, self.sampling_steps))
        return self.codec.decode(latents).clamp(-1, 1)

    def draw_views(self, key: str, context: Views, cameras: Cameras, draw: int, purpose: str) -> RenderedViews:
        """See `EpipolarViews`: sampled images, with the transformer's depths."""
        maps = self.transformer.encode(context)
        size, sides = context.observation.shape[-1], cameras.pixels.shape[2:4]
        estimate, images = self.render_estimate(maps, cameras), []
        for view in range(cameras.pixels.shape[1]):
            features = self.as_grid(self.view_features(maps, cameras, view, size))
            image = self.sample_view(features, (purpose, key, draw, view))
            image = image if image.shape[-2:] == sides else F.interpolate(image, sides, mode="bilinear")
            images.append(image[:, None])
            self.plan.worked(1)
        return estimate._replace(image=torch.cat(images, dim=1))

    def work(self, batch: Batch | Request) -> int:
        """See `Predictor`: a piece is a sampled view, or one of the transformer's."""
        if isinstance(batch, Request):
            return 2 * super().work(batch)
        views = sum(part.observation.shape[1] for part in (batch.context, batch.target, batch.novel))
        return len(batch.key) * views * (2 * self.samples + 1)


def _inside_picture(batch: Batch, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"] | None:
    """Mark the latents of targets that lie in the pictures they are cropped from, if the data tells."""
    if "valid" not in batch.truth:
        return None
    # (Contexts, target, novel views; training may have left out contexts.)
    target = batch.truth["valid"][:, -1 - batch.novel.observation.shape[1]]
    reduced = F.interpolate(target, latents.shape[-2:], mode="bilinear")
    return (reduced > _LEAST_INSIDE).to(latents)


def _without_gradient(part: nn.Module) -> Float[Tensor, ""]:
    """Return a zero that gives parameters gradients of zero; training on several processes needs one for each."""
    return 0 * torch.stack([parameter.sum() for parameter in part.parameters()]).sum()
