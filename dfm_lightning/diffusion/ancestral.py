"""Denoising by predicted noise in continuous time: ancestral steps, and distillation's multi-step denoising."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.log_snr_cosine import LogSNRCosine

# Predicts the noise in latents [b ...] at times from 0 to 1 [b].
PredictNoise = Callable[[Tensor, Tensor], Tensor]

# Coefficients of Adams and Bashforth for the current prediction and those before it, by how many there are.
_ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def _shaped(values: Float[Tensor, " b"], like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


def add_noise(
    process: LogSNRCosine, clean: Float[Tensor, "b *o"], noise: Float[Tensor, "b *o"], time: Float[Tensor, " b"]
) -> Float[Tensor, "b *o"]:
    """Make clean latents noisy: x_t = α x_0 + σ ε."""
    signal, noisy = process.rates_at(time)
    return _shaped(signal, clean) * clean + _shaped(noisy, clean) * noise


def clean_estimate(
    process: LogSNRCosine,
    noisy: Float[Tensor, "b *o"],
    noise: Float[Tensor, "b *o"],
    time: Float[Tensor, " b"],
    bound: float | None = None,
) -> Float[Tensor, "b *o"]:
    """Compute the clean latents that noise was added to, clipped to ± `bound` if there is one."""
    signal, noise_rate = process.rates_at(time)
    # In the precision of the rates α is never 0: the log SNR has a least value.
    clean = (noisy - _shaped(noise_rate, noisy) * noise) / _shaped(signal, noisy).clamp(min=1e-8)
    return clean if bound is None else clean.clamp(-bound, bound)


def posterior(
    process: LogSNRCosine,
    noisy: Float[Tensor, "b *o"],
    clean: Float[Tensor, "b *o"],
    time: Float[Tensor, " b"],
    following: Float[Tensor, " b"],
) -> tuple[Float[Tensor, "b *o"], Float[Tensor, "b *ones"]]:
    """Return mean and variance of the latents at an earlier time, given those at a time and the clean ones."""
    ratio, next_ratio = process.log_snr(time), process.log_snr(following)
    (signal, _), (next_signal, next_noise) = process.rates_at(time), process.rates_at(following)
    gained = -torch.expm1(ratio - next_ratio)
    mean = _shaped(next_signal * (1 - gained) / signal.clamp(min=1e-8), noisy) * noisy
    return mean + _shaped(next_signal * gained, noisy) * clean, _shaped(next_noise.square() * gained, noisy)


class AncestralSteps:
    """Steps of the reverse process from one time to another, each with fresh noise except the one to time 0.

    Args:
        process: the noising that is reversed.
        draw_noise: gives standard normal noise of the latents' shape.
        bound: estimates of clean latents, and results, are clipped to ± this.
    """

    def __init__(
        self, process: LogSNRCosine, draw_noise: Callable[[], Tensor], bound: float | None = 10.0
    ) -> None:
        self.process = process
        self.draw_noise = draw_noise
        self.bound = bound

    def step(
        self, noisy: Float[Tensor, "b *o"], noise: Float[Tensor, "b *o"], time: float, following: float
    ) -> Float[Tensor, "b *o"]:
        """Step from one time to another by predicted noise."""
        now, then = _at(time, noisy), _at(following, noisy)
        clean = clean_estimate(self.process, noisy, noise, now, self.bound)
        mean, variance = posterior(self.process, noisy, clean, now, then)
        return mean if following == 0 else mean + variance.sqrt() * self.draw_noise()

    def sample(
        self, predict: PredictNoise, start: Float[Tensor, "b *o"], times: Sequence[float]
    ) -> Float[Tensor, "b *o"]:
        """Sample ancestrally, with one prediction a step, along falling times."""
        noisy = start
        for time, following in pairwise(times):
            noisy = self.step(noisy, predict(noisy, _at(time, noisy)), time, following)
        return self._clipped(noisy)

    def denoise(
        self, predict: PredictNoise, start: Float[Tensor, "b *o"], times: Sequence[float]
    ) -> Float[Tensor, "b *o"]:
        """Denoise along falling times with the linear multistep method of SparseFusion's distillation (A.3).

        Predicted noise is extrapolated by Adams and Bashforth (Liu et al. 2022), beginning with the mean of two
        predictions (improved Euler); yet every step is an ancestral one with fresh noise. One prediction more than
        steps.
        """
        noisy = start
        earlier: list[Tensor] = []
        for time, following in pairwise(times):
            noise = predict(noisy, _at(time, noisy))
            if earlier:
                history = torch.stack([noise, *earlier])
                combined = torch.tensordot(noise.new_tensor(_ADAMS_BASHFORTH[len(earlier)]), history, dims=1)
            else:
                ahead = self.step(noisy, noise, time, following)
                combined = (noise + predict(ahead, _at(following, noisy))) / 2
            noisy = self.step(noisy, combined, time, following)
            earlier = [noise, *earlier][: len(_ADAMS_BASHFORTH) - 1]
        return self._clipped(noisy)

    def _clipped(self, latents: Float[Tensor, "b *o"]) -> Float[Tensor, "b *o"]:
        return latents if self.bound is None else latents.clamp(-self.bound, self.bound)


def _at(time: float, like: Tensor) -> Float[Tensor, " b"]:
    return torch.full((len(like),), time, dtype=like.dtype, device=like.device)


def falling_times(start: float, steps: int) -> list[float]:
    """Return times from `start` to 0 in equal steps."""
    return torch.linspace(start, 0, steps + 1, dtype=torch.float64).tolist()


def denoising_steps(time: float, most: int, least: int = 1) -> int:
    """Return the number of steps of multi-step denoising from time t: 2 t `most`, at most `most` (eq. A.1).

    Args:
        time: where denoising starts, from 0 to 1.
        most: steps from the middle of the schedule on.
        least: SparseFusion's code allows 0 at the beginning of the schedule, which leaves the latents noisy.
    """
    return max(least, min(int(time * most * 2), most))
