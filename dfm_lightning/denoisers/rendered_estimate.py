"""The scene as the context alone determines it, rendered at the target's camera, as an input of image networks."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.denoisers.view_encoding import BLURS, blurs, preconditioning
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.volume_rendering import VolumeRendering
from dfm_lightning.networks.dit import zero_parameters
from dfm_lightning.signals import RadianceField
from dfm_lightning.types import Cameras

# Colour, opacity and depth.
_CHANNELS = 5


class EstimateInput(nn.Module):
    """The rendered estimate as a 2D network sees it beside the noisy image.

    The network sees the estimate itself, and the estimate scaled like the signal in the noisy image, at full and
    at lower resolutions (see `blurs`). One convolution can then subtract it, which leaves the noise and everything
    that the context does not determine. It changes nothing at first, so that a network trained without it can
    continue with it.

    Args:
        width: channels of the network's first features.
        field_features: number of features of the field, which are rendered beside its colour.
    """

    def __init__(self, width: int, field_features: int = 0) -> None:
        super().__init__()
        self.features = nn.Conv2d(_CHANNELS + field_features + 3 + 3 * len(BLURS), width, 3, padding=1)
        zero_parameters(self.features)

    def forward(
        self,
        estimate: Float[Tensor, "b c h w"],
        signal_rate: Float[Tensor, " b"],
        noise_rate: Float[Tensor, " b"],
    ) -> Float[Tensor, "b f h w"]:
        """Return the addition to the network's first features."""
        expected = signal_rate.view(-1, 1, 1, 1) * estimate[:, :3]
        into = preconditioning(signal_rate, noise_rate).into
        lower = blurs(expected, signal_rate, noise_rate)
        return self.features(torch.cat([estimate, into * expected, lower], dim=1))


def check_coarse_only(renderer: VolumeRendering) -> None:
    """Raise `ValueError` if a renderer of the estimate has fine samples."""
    if renderer.fine_samples:
        raise ValueError(
            "the deterministic estimate is rendered from coarse samples only: "
            f"estimate_renderer.fine_samples must be 0, got {renderer.fine_samples}"
        )


def rendered_estimate(
    renderer: VolumeRendering, field: RadianceField, cameras: Cameras, reduction: int, distance: float
) -> Float[Tensor, "b v c h w"]:
    """Render colour in [-1, 1], opacity, depth in units of a distance, and the field's features.

    See `reduce_cameras` for the reduction and its errors.
    """
    rendered = renderer.observe(field, reduce_cameras(cameras, reduction))
    details = rendered.auxiliary
    parts = [rendered.observation, details.opacity, details.depth / distance, details.features]
    return enlarge(torch.cat(parts, dim=2), reduction, renderer.corner_aligned)


def reduce_cameras(cameras: Cameras, times: int) -> Cameras:
    """Return the same views with fewer pixels along each side by a factor, each in the middle of those it
    replaces.

    For corner-aligned cameras, the outer ones stay where they are. Raises `UserError` if the factor does not
    divide height and width, or leaves less than two pixels along a side.
    """
    if times == 1:
        return cameras
    height, width = cameras.pixels.shape[2:4]
    if min(height, width) < 2 * times:
        raise UserError(
            f"estimate_reduction {times} leaves less than 2×2 of the target's {height}×{width} pixels: "
            "choose a smaller one"
        )
    if height % times or width % times:
        raise UserError(
            f"estimate_reduction {times} does not divide the target's {height}×{width} pixels: choose another"
        )
    blocks = cameras.pixels.unflatten(3, (-1, times)).unflatten(2, (-1, times))
    return cameras._replace(pixels=blocks.mean(dim=(3, 5)))


def enlarge(
    images: Float[Tensor, "b v c h w"], times: int, corner_aligned: bool = False
) -> Float[Tensor, "b v c h2 w2"]:
    """Enlarge images by a factor along each side, by bilinear interpolation.

    This inverts `reduce_cameras`: pixel i of N sees position (i + ½)/N, beyond the outermost of the small image
    what that sees; with corner-aligned cameras it sees i/(N − 1).
    """
    if times == 1:
        return images
    size = [side * times for side in images.shape[-2:]]
    enlarged = F.interpolate(images.flatten(0, 1), size=size, mode="bilinear", align_corners=corner_aligned)
    return enlarged.unflatten(0, images.shape[:2])
