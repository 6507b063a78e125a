"""The error of predicted noise, by which latent diffusion learns."""

from jaxtyping import Float
from torch import Tensor


def noise_error(
    found: Float[Tensor, "b c h w"],
    true: Float[Tensor, "b c h w"],
    log_snr: Float[Tensor, " b"] | None = None,
    inside: Float[Tensor, "b #c h w"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean squared error of predicted noise.

    Args:
        found: predicted noise.
        true: the noise.
        log_snr: log(α²/σ²) of each item, whose error is then weighted by (1 + SNR)^−½ (SparseFusion's code).
        inside: 1 where the error counts; where it is 0, the error is taken as 0, not left out of the mean.
    """
    error = (found - true).square()
    if inside is not None:
        error = error * inside
    items = error.flatten(1).mean(dim=1)
    return (items if log_snr is None else items * (1 + log_snr.exp()).rsqrt()).mean()
