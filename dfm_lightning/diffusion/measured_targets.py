"""Targets that were measured with noise: how to learn from them, and how to sample them.

A target O = F + σ n is an observation F of the signal with measurement noise. A denoiser that is trained to
predict O from O with the process's noise learns to reproduce n; its signals then explain noise. Since both noises
are normal, Tweedie's formula relates the means of F and O (Daras et al. 2024, "Consistent Diffusion Meets
Tweedie"): with x = α O + s ε,

    E[O | x] = w E[F | x] + (1 − w) x / α,    w = s² / (s² + α² σ²).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import NoiseProcess
from dfm_lightning.types import Level, at_least_float32, repeat_batch


class MeasuredTargets:
    """The algebra of targets with noise of a standard deviation σ.

    Args:
        process: the noising of targets.
        deviation: σ, five dimensions that broadcast to targets [b v c h w].

    Numbers whose σ is infinite were not measured: they have the weight 0 and are denoised as without noise.
    """

    def __init__(self, process: NoiseProcess, deviation: Tensor) -> None:
        self.process = process
        self.deviation = deviation.to(at_least_float32(deviation))

    def repeated(self, samples: int) -> "MeasuredTargets":
        """Return the algebra for this many draws of each scene, side by side."""
        alike = len(self.deviation) == 1
        return self if alike else MeasuredTargets(self.process, repeat_batch(self.deviation, samples))

    def weight(self, level: Level) -> Float[Tensor, "b ..."]:
        """Return w, the inverse variance of `corrected` targets over that of the noise: 1 where there is none."""
        return torch.where(torch.isinf(self.deviation), 0.0, self._share(level))

    def corrected(
        self, target: Float[Tensor, "b v *o"], noise: Float[Tensor, "b v *o"], level: Level
    ) -> Float[Tensor, "b v *o"]:
        """Return O − σ² (α/s) ε, whose mean given the noisy target is that of F; compare F̂ with it."""
        signal_rate, noise_rate = self.process.rates(level, noise)
        return target - self._known().square() * (signal_rate / noise_rate) * noise

    def estimate(
        self, observed: Float[Tensor, "b v *o"], given: Float[Tensor, "b v *o"], level: Level
    ) -> Float[Tensor, "b v *o"]:
        """Return E[O | x] from F̂ and the denoiser's input (x, scaled as the process does), for a sampler."""
        given = given.to(at_least_float32(given))
        signal_rate, noise_rate = self.process.rates(level, given)
        scale, _ = self.process.denoiser_input(torch.ones_like(given), level)
        known, share = self._known(), self._share(level)
        total = noise_rate.square() + (signal_rate * known).square()
        return share * observed + signal_rate * known.square() / total * (given / scale)

    def _share(self, level: Level) -> Float[Tensor, "b ..."]:
        """Return w = s² / (s² + α² σ²)."""
        signal_rate, noise_rate = self.process.rates(level, self.deviation)
        return noise_rate.square() / (noise_rate.square() + (signal_rate * self._known()).square())

    def _known(self) -> Tensor:
        return torch.where(torch.isinf(self.deviation), 0.0, self.deviation)


def measured_targets(process: NoiseProcess, deviation: Tensor | None) -> MeasuredTargets | None:
    """Return the algebra of targets with this noise; None if there is none."""
    if deviation is None or not bool((deviation > 0).any()):
        return None
    return MeasuredTargets(process, deviation.reshape(*[1] * (5 - deviation.ndim), *deviation.shape))
