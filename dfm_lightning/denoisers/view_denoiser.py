"""The 2D half of a denoiser of scenes: feature maps of views, and the clean image of a noisy one."""

from typing import Generic

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.denoisers.hidden_look import HiddenLook, Look, LookPlaces
from dfm_lightning.denoisers.rendered_estimate import EstimateInput
from dfm_lightning.denoisers.scene_denoiser import SceneDenoiser
from dfm_lightning.denoisers.view_encoding import BLURS, DATA_DEVIATION, blurs, preconditioning
from dfm_lightning.held_process import HeldProcess
from dfm_lightning.interfaces import Conditioning, Noising
from dfm_lightning.networks.dit import zero_parameters
from dfm_lightning.networks.embeddings import ratio_sinusoids
from dfm_lightning.networks.unet import UNet
from dfm_lightning.types import Level, at_least_float32, repeat_batch

# The greatest weight of the image estimate's loss, which grows without bound as the noise vanishes.
_GREATEST_WEIGHT = 12.5
_LEVEL_WAVES = 32
_FIRST_FOLLOWING = -2.0
# Noises that a training image is given to learn the looks from, which cost next to nothing.
_LOOK_NOISES = 8
# Length of the vector that tells points the level of a view.
LEVEL_CHANNELS = 8


class ViewDenoiser(SceneDenoiser[Conditioning], Generic[Conditioning]):
    """A denoiser of scenes with a 2D U-Net, which encodes clean views and denoises noisy ones.

    The network has EDM's preconditioning (see `preconditioning`). It knows the diffusion level and a vector of the
    context.

    Args:
        features: channels of the feature maps, besides the estimated colours.
        image_widths: channels of the U-Net at each resolution.
        condition_width: length of the vectors that condition networks.
        blurred_inputs: whether the network sees the noisy image at lower resolutions beside the image itself.
        estimated: whether it sees an estimate of the image (see `EstimateInput`).
        looks: number of colours that are decided for all that the context hides (see `HiddenLook`), with an
            estimate.
        unmixed_looks: whether the looks' averages count as mixtures, and the U-Net knows the looks' colours beside
            the painted estimate.
    """

    def __init__(
        self,
        features: int,
        image_widths: list[int],
        condition_width: int,
        blurred_inputs: bool,
        estimated: bool,
        looks: int = 0,
        unmixed_looks: bool = False,
    ) -> None:
        super().__init__()
        self.level = nn.Sequential(
            nn.Linear(2 * _LEVEL_WAVES, condition_width), nn.SiLU(), nn.Linear(condition_width, condition_width)
        )
        self.level_of_view = nn.Linear(condition_width, LEVEL_CHANNELS)
        self.encoder = UNet(2, 3, features + 3, image_widths, condition_width)
        self.blurred: nn.Conv2d | None = None
        if blurred_inputs:
            self.blurred = nn.Conv2d(3 * len(BLURS), image_widths[0], 3, padding=1)
            zero_parameters(self.blurred)
        self.estimated = EstimateInput(image_widths[0], 1 if looks else 0) if estimated else None
        self.look: HiddenLook | None = None
        if looks:
            self.look = HiddenLook(looks, condition_width, unmixed=unmixed_looks)
            # How far each pixel of the estimate follows the painted one, hardly at first.
            self.follow = nn.Conv2d(features, 1, 1)
            zero_parameters(self.follow)
            nn.init.constant_(self.follow.get_parameter("bias"), _FIRST_FOLLOWING)
        self.look_condition: nn.Linear | None = None
        if looks and unmixed_looks:
            self.look_condition = nn.Linear(3 * looks, condition_width, bias=False)
            zero_parameters(self.look_condition)
        self._held = HeldProcess()

    def use_process(self, process: Noising) -> None:
        """See `SignalDenoiser.use_process`: levels are embedded by their signal-to-noise ratio.

        Raises:
            UserError: the process scales the inputs of denoisers, which this one does itself.
        """
        self._held.hold(process, f"{type(self).__name__} scales its noisy images itself")

    def _rates(self, level: Level) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Return √ᾱ and √(1 − ᾱ) of each level."""
        return self._held.process.rates(level, level.float())

    def _image_error(
        self, maps: Float[Tensor, "b h w f"], clean: Float[Tensor, "b 3 h w"], level: Level
    ) -> Float[Tensor, " b"]:
        """Compute the squared error of each map's 2D estimate, in units of the error left to estimate."""
        out = preconditioning(*self._rates(level)).out.flatten()
        weight = (DATA_DEVIATION / out).square().clamp(max=_GREATEST_WEIGHT)
        estimate = maps[..., -3:].movedim(-1, 1) * 2 - 1
        return (estimate - clean).float().square().flatten(1).mean(dim=1) * weight

    def _errors_of_noised(
        self,
        clean: Float[Tensor, "b v 3 h w"],
        summary: Float[Tensor, "b s"],
        estimate: Float[Tensor, "b v e h w"] | None,
        noises: int,
    ) -> dict[str, Float[Tensor, ""]]:
        """Compute the mean errors of images, each noised several times at random levels.

        "image" is that of their 2D estimates, "look" that of the painted estimates.
        """
        errors = {}
        summary = summary.repeat_interleave(clean.shape[1], dim=0)
        clean = clean.flatten(0, 1)
        places = None
        if estimate is not None:
            estimate = estimate.flatten(0, 1)
            if self.look is not None:
                places = repeat_batch(self.look.places(estimate, summary), noises)
            estimate = repeat_batch(estimate, noises)
        clean, summary = repeat_batch((clean, summary), noises)
        noisy, level = self._noised(clean)
        rates = self._rates(level)
        condition = self._level_condition(*rates) + summary
        if self.look is not None and estimate is not None and places is not None:
            look = self.look(noisy, *rates, estimate, summary, places)
            estimate = torch.cat([look.painted, estimate[:, 3:]], dim=1)
            condition = condition + self._of_look(look)
            errors["look"] = (look.painted - clean).square().mean()
        maps, _ = self._encode(noisy, *rates, condition, estimate)
        return errors | {"image": self._image_error(maps, clean, level).mean()}

    def _look_error(
        self,
        clean: Float[Tensor, "b 3 h w"],
        summary: Float[Tensor, "b s"],
        estimate: Float[Tensor, "b e h w"],
        places: LookPlaces,
    ) -> Float[Tensor, ""]:
        """Compute the mean squared error of the painted estimates, for several noises of each image."""
        assert self.look is not None
        clean, summary, estimate, places = (
            repeat_batch(part, _LOOK_NOISES) for part in (clean, summary, estimate, places)
        )
        noisy, level = self._noised(clean)
        painted = self.look(noisy, *self._rates(level), estimate, summary, places).painted
        return (painted - clean).square().mean()

    def _noised(self, clean: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 3 h w"], Level]:
        """Noise each image at a level of its own, drawn as for training."""
        process = self._held.process
        level = process.training_levels(len(clean))
        noise = torch.randn_like(clean.to(at_least_float32(clean)))
        return process.add_noise(clean, noise, level).to(clean.dtype), level

    def _of_look(self, look: Look) -> Float[Tensor, "b c"]:
        """Return what the U-Net knows of the looks' colours, to be added to its condition."""
        if self.look_condition is None:
            return look.colours.new_zeros(len(look.colours), 1)
        return self.look_condition(look.colours.flatten(1))

    def _level_condition(
        self, signal_rate: Float[Tensor, " b"], noise_rate: Float[Tensor, " b"]
    ) -> Float[Tensor, "b c"]:
        """Embed each level, smoothly in the logarithm of its signal-to-noise ratio."""
        return self.level(ratio_sinusoids(signal_rate, noise_rate, 2 * _LEVEL_WAVES))

    def _encode(
        self,
        images: Tensor,
        signal_rate: Tensor,
        noise_rate: Tensor,
        condition: Tensor,
        estimate: Tensor | None = None,
    ) -> tuple[Float[Tensor, "b h w f"], Float[Tensor, "b e"]]:
        """Compute feature maps, which end with the estimated clean colours in [0, 1], and view summaries."""
        factors = preconditioning(signal_rate, noise_rate)
        beside = None
        if self.blurred is not None:
            beside = self.blurred(blurs(images, signal_rate, noise_rate))
        if self.estimated is not None and estimate is not None:
            shown = self.estimated(estimate, signal_rate, noise_rate)
            beside = shown if beside is None else beside + shown
        out, summary = self.encoder.with_summary(factors.into * images, condition, beside)
        out = out.float()
        features, correction = out.split([out.shape[1] - 3, 3], dim=1)
        clean = factors.skip * images + factors.out * correction
        if self.look is not None and estimate is not None:
            # The share that noise leaves unknown, 1 for pure noise, of what the network asks for.
            share = factors.out / DATA_DEVIATION * self.follow(features).sigmoid()
            clean = clean + share * (estimate[:, :3] - clean)
        return torch.cat([features, clean.clamp(-1, 1) * 0.5 + 0.5], dim=1).movedim(1, -1), summary.float()
