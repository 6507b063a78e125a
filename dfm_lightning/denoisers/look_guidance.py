"""Guidance of hidden looks: their colours are decided more firmly than the denoiser decides them by itself."""

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.denoisers.hidden_look import LookPlaces
from dfm_lightning.ranges import check_at_least, check_below_one
from dfm_lightning.record import Recorded


class LookGuidance(Recorded):
    """Moves the colours of hidden looks further from the deterministic estimate's, while noise is strong.

    A denoiser that has not been trained long enough is too cautious: of what the noisy image says about a hidden
    colour, it believes a part. Each evaluation then stays near the mean of all colours, and samples end between
    them. As classifier-free guidance extrapolates from the estimate without a context (Ho and Salimans 2022), this
    extrapolates from the estimate without a target, but only the mean colour of each look's region: outlines,
    shading and everything else stay as they were predicted. Weak noise leaves nothing to decide, and there guided
    colours would only be too strong; so guidance has an interval (Kynkäänniemi et al. 2024). It begins gradually,
    since samplers of higher order need estimates that change smoothly with the noise.

    The scale that is right depends on the model: choose it by the share of decided samples and their agreement
    with a known law on validation scenes.

    Args:
        scales: factor on each look's change of colour where there is nothing but noise, in the order of the looks;
            1 changes nothing.
        least_noise: the noise rate √(1 − ᾱ) at which it begins, in [0, 1). From there to 1 the factors grow
            linearly from 1 to `scales`.
    """

    def __init__(self, scales: list[float], least_noise: float = 0.8) -> None:
        check_at_least(0, scales=scales)
        check_below_one(least_noise=least_noise)
        self.scales = scales
        self.least_noise = least_noise

    def __call__(
        self,
        images: Float[Tensor, "b h w 3"],
        noise_rate: Float[Tensor, " b"],
        estimate: Float[Tensor, "b e h w"],
        places: LookPlaces,
    ) -> Float[Tensor, "b h w 3"]:
        """Guide denoised images in [0, 1], given the estimates that begin with colours in [-1, 1]."""
        share = ((noise_rate - self.least_noise) / (1 - self.least_noise)).clamp(min=0)
        further = share[:, None] * (images.new_tensor(self.scales) - 1)
        change = images.flatten(1, 2) - (estimate[:, :3].flatten(2).mT * 0.5 + 0.5)
        colours = (places.weights.to(change) @ change) * further[..., None]
        guided = images + (places.shares.to(change).mT @ colours).view_as(images)
        return guided.clamp(0, 1)
