"""The best linear estimate of a clean image: the Wiener filter of a noisy one, about an estimate without noise."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.held_process import HeldProcess
from dfm_lightning.interfaces import Noising
from dfm_lightning.types import Level

# What differs from the estimate at first: deviation in [-1, 1], and length in pixels over which it stays alike.
_DEVIATION, _LENGTH = 0.35, 3.0


class LinearEstimate(nn.Module):
    """Estimate x₀ from x = √ᾱ x₀ + √(1 − ᾱ) ε as e + F(x − √ᾱ e), where e is an estimate and F a linear filter.

    Differences from the estimate are taken for a stationary field of covariance v exp(−distance/ℓ), whose spectrum
    is S(k) = 2π ℓ² v (1 + (kℓ)²)^(−3/2) for k in radians a pixel. The filter with the least squared error has the
    gain √ᾱ S/(ᾱ S + 1 − ᾱ) at each frequency (Wiener). v and ℓ are learned; images continue as mirrored at their
    borders.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.tensor(2 * math.log(_DEVIATION)))
        self.log_length = nn.Parameter(torch.tensor(math.log(_LENGTH)))
        self._held = HeldProcess()

    def use_process(self, process: Noising) -> None:
        """Store the model's noise process, whose rates the filter needs.

        Raises:
            UserError: denoisers are given something other than this process's noisy images.
        """
        self._held.hold(process, "source_colours need noisy images as they are")

    def forward(
        self, noisy: Float[Tensor, "b 3 h w"], level: Level, estimate: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b 3 h w"]:
        """Return the estimate of the clean images, in float32 at least."""
        with torch.autocast(noisy.device.type, enabled=False):
            exact = torch.promote_types(noisy.dtype, torch.float32)
            noisy, estimate = noisy.to(exact), estimate.to(exact)
            rates = self._held.process.rates(level, level.to(exact))
            signal_rate, noise_rate = (rate.view(-1, 1, 1, 1) for rate in rates)
            spectrum = self._spectrum(*noisy.shape[2:])
            gain = signal_rate * spectrum / (signal_rate.square() * spectrum + noise_rate.square())
            return estimate + _filtered(noisy - signal_rate * estimate, gain)

    def _spectrum(self, height: int, width: int) -> Float[Tensor, "g f"]:
        """Return S at the frequencies of mirrored images."""
        down = 2 * math.pi * torch.fft.fftfreq(2 * height, device=self.log_length.device)
        across = 2 * math.pi * torch.fft.fftfreq(2 * width, device=self.log_length.device)
        length = self.log_length.exp()
        square = (down[:, None].square() + across.square()) * length.square()
        return 2 * math.pi * length.square() * self.log_variance.exp() * (1 + square).pow(-1.5)


def _filtered(images: Float[Tensor, "b c h w"], gain: Float[Tensor, "b 1 g f"]) -> Float[Tensor, "b c h w"]:
    """Multiply the frequencies of mirrored images by real gains that are even in each axis."""
    height, width = images.shape[2:]
    mirrored = torch.cat([images, images.flip(2)], dim=2)
    mirrored = torch.cat([mirrored, mirrored.flip(3)], dim=3)
    return torch.fft.ifft2(torch.fft.fft2(mirrored) * gain).real[..., :height, :width]
