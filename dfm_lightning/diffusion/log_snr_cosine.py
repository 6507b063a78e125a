"""The cosine schedule over continuous time, by its log signal-to-noise ratio."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.continuous_process import ContinuousProcess
from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.ranges import check_above, check_finite, check_within
from dfm_lightning.types import Level

_OFFSET = 0.008
# What the tangent's square is at least, so that the ratio at time 0 is finite.
_LEAST_TANGENT = 1e-5


class LogSNRCosine(ContinuousProcess):
    """α² = sigmoid(log SNR), log SNR = −log(cos(φ)⁻² − 1), φ = (t + 0.008)/1.008 · π/2.

    Nichol and Dhariwal's cosine over continuous time, as SparseFusion's latent diffusion has it.
    Level T · t stands for time t.

    Args:
        levels: the noisiest level T.
        last_training_time: training draws times from 0 to this one.
        least_log_snr: log SNR at time 1, where the formula gives −∞ but for rounding; SparseFusion's float32 gives
            −33.9.
    """

    without_effect = frozenset({"last_training_time"})

    def __init__(
        self, levels: int = 1000, last_training_time: Number = 0.999, least_log_snr: Number = -33.9
    ) -> None:
        super().__init__(levels)
        check_above(0, last_training_time=last_training_time)
        check_within(0, 1, last_training_time=last_training_time)
        check_finite(least_log_snr=least_log_snr)
        self.last_training_time = last_training_time
        self.least_log_snr = least_log_snr

    def log_snr(self, time: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Compute log(α²/σ²) at times from 0 to 1, in their precision."""
        angle = (time + _OFFSET) / (1 + _OFFSET) * (math.pi / 2)
        ratio = -torch.log((angle.cos() ** -2 - 1).clamp(min=_LEAST_TANGENT))
        return ratio.clamp(min=self.least_log_snr)

    def rates_at(self, time: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """See `ContinuousProcess.rates_at`."""
        ratio = self.log_snr(time)
        return ratio.sigmoid().sqrt(), (-ratio).sigmoid().sqrt()

    def time_at(self, log_ratio: float) -> float:
        """See `ContinuousProcess.time_at`."""
        return math.atan(math.exp(-log_ratio)) * (2 / math.pi) * (1 + _OFFSET) - _OFFSET

    def training_levels(self, batch: int, generator: torch.Generator | None = None) -> Level:
        """Draw levels uniform over times 0 to `last_training_time`."""
        return super().training_levels(batch, generator) * self.last_training_time
