"""The look of what the context does not show: a few colours, decided for the whole hidden part at once."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.networks.dit import zero_parameters
from dfm_lightning.networks.unet import UNet

# Channels of an estimate with visibility: colour, opacity, depth, and how much of it the context sees.
CHANNELS = 6
# Standard deviation of what hidden colours differ by from the estimate's, in [-1, 1].
_DEVIATION = 0.4
_WIDTHS = [16, 32, 64]


class LookPlaces(NamedTuple):
    """Where an estimated image shows hidden parts of each look.

    `weights` sum to one over the n pixels: those whose noisy colours are averaged. `shares` are the parts of each
    pixel that the looks colour, at most one in all. `colours` are the estimate's own averages, in [-1, 1].
    """

    weights: Float[Tensor, "b k n"]
    shares: Float[Tensor, "b k n"]
    colours: Float[Tensor, "b k 3"]


class Look(NamedTuple):
    """The colours of the looks, and the estimate painted with them; in [-1, 1] but for errors of prediction."""

    colours: Float[Tensor, "b k 3"]
    painted: Float[Tensor, "b 3 h w"]


class HiddenLook(nn.Module):
    """Decide the colours of what the context does not show, each for a whole region.

    Under strong noise single pixels tell nothing of the back of an object, but the mean of all that show it tells
    its colour. Pixels that a network denoises one by one decide separately: a patchwork. Here a 2D U-Net sees the
    deterministic estimate at the target's camera, which has no noise, and chooses for each of a few looks the
    pixels to average, and those to paint. The averages over the noisy image, less those over the estimate, are
    numbers with noise of a known deviation; a small network denoises them as one vector, with EDM's
    preconditioning, and can choose one colour where a mean of several would be wrong.

    Where the estimate's outlines are vague, each region holds other parts too, so that even the average of a clean
    image is a mixture: olive, for a red back before green ground. `unmixed` looks have a further correction, of
    any size at any level, from mixture to colour.

    Args:
        looks: number of looks (k).
        summary: length of the vector of the context.
        width: length of the hidden vectors.
        unmixed: whether averages are taken for mixtures.
    """

    def __init__(self, looks: int, summary: int, width: int = 128, unmixed: bool = False) -> None:
        super().__init__()
        self.looks = looks
        self.places_net = UNet(2, CHANNELS + 2, 2 * looks + 1, _WIDTHS, summary)
        self.colours_net = _mlp(7 * looks + summary, width, 3 * looks)
        self.unmixing: nn.Sequential | None = None
        if unmixed:
            self.unmixing = _mlp(10 * looks + summary, width, 3 * looks)
            zero_parameters(self.unmixing[-1])

    def places(self, estimate: Float[Tensor, "b c h w"], summary: Float[Tensor, "b s"]) -> LookPlaces:
        """Choose the pixels of each look: from the estimate alone, once for a sampling run."""
        height, width = estimate.shape[2:]
        across = torch.linspace(-1, 1, width, device=estimate.device).expand(len(estimate), 1, height, width)
        down = torch.linspace(-1, 1, height, device=estimate.device)[:, None].expand_as(across)
        found = self.places_net(torch.cat([estimate, across, down], dim=1), summary).float().flatten(2)
        averaged, painted = found.split([self.looks, self.looks + 1], dim=1)
        weights = averaged.softmax(dim=2)
        colours = weights @ estimate[:, :3].flatten(2).mT.float()
        return LookPlaces(weights, painted.softmax(dim=1)[:, 1:], colours)

    def forward(
        self,
        noisy: Float[Tensor, "b 3 h w"],
        signal_rate: Float[Tensor, " b"],
        noise_rate: Float[Tensor, " b"],
        estimate: Float[Tensor, "b c h w"],
        summary: Float[Tensor, "b s"],
        places: LookPlaces,
    ) -> Look:
        """Estimate the looks' colours from the noisy image, and paint the estimate with them."""
        ratio = (noise_rate / signal_rate.clamp(min=1e-4))[:, None]
        # The noise of an average, and EDM's coefficients for a number whose noise has this deviation.
        noise = ratio * places.weights.square().sum(dim=-1).sqrt()
        scale = (noise.square() + _DEVIATION**2).sqrt()
        images = noisy.flatten(2).mT.float() / signal_rate.clamp(min=1e-4)[:, None, None]
        change = places.weights @ images - places.colours
        known = [change / scale[..., None], places.colours]
        told = torch.cat([*(part.flatten(1) for part in known), noise.clamp(min=1e-4).log() / 4, summary], dim=1)
        correction = self.colours_net(told).float().unflatten(1, (-1, 3))
        skip, out = (_DEVIATION / scale).square(), _DEVIATION * noise / scale
        change = skip[..., None] * change + out[..., None] * correction
        if self.unmixing is not None:
            told = torch.cat([change.flatten(1), told], dim=1)
            change = change + self.unmixing(told).float().unflatten(1, (-1, 3))
        painted = estimate[:, :3] + (change.mT @ places.shares).unflatten(2, noisy.shape[2:])
        return Look(places.colours + change, painted)


def _mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs)
    )
