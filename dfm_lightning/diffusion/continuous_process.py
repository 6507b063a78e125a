"""Noise processes over continuous time: variance preserving and variance exploding, with EDM's preconditioning."""

import math
from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import NoiseProcess, Number
from dfm_lightning.ranges import check_above, check_at_least, check_finite
from dfm_lightning.types import Level


class ContinuousProcess(NoiseProcess):
    """A process whose levels are real numbers from 0 to T, drawn uniformly in training.

    Denoisers embed levels by sinusoids made for integers up to about a thousand, hence T and not 1.

    Args:
        levels: the noisiest level T.
        data_std: standard deviation of the clean observations' values. With it denoisers receive noisy ones scaled
            to unit variance, the input scaling c_in of EDM (Karras et al. 2022, table 1); without it they receive
            them unscaled. (c_skip and c_out do not apply: denoisers predict signals.)
    """

    _placed: Tensor

    def __init__(self, levels: int = 1000, data_std: Number | None = None) -> None:
        super().__init__()
        check_at_least(1, levels=levels)
        check_above(0, data_std=data_std)
        self._levels = levels
        self.data_std = data_std
        self.register_buffer("_placed", torch.zeros(()), persistent=False)  # on the model's device

    @property
    def levels(self) -> int:
        """See `NoiseProcess.levels`."""
        return self._levels

    @property
    def last_level(self) -> float:
        """See `NoiseProcess.last_level`: T."""
        return float(self._levels)

    @abstractmethod
    def rates_at(self, time: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Return α and σ at times 0 (least noise) to 1."""

    @abstractmethod
    def time_at(self, log_ratio: float) -> float:
        """Return the time at which ln(α/σ) is `log_ratio`; it may lie outside 0 to 1."""

    def exact_rates(self, level: Number) -> tuple[float, float]:
        """See `NoiseProcess.exact_rates`."""
        if level < 0:
            return 1.0, 0.0
        signal_rate, noise_rate = self.rates_at(torch.tensor([level / self.levels], dtype=torch.float64))
        return float(signal_rate), float(noise_rate)

    def level_at(self, log_ratio: Number) -> float:
        """See `NoiseProcess.level_at`."""
        return min(max(self.time_at(float(log_ratio)), 0.0), 1.0) * self.levels

    def rates(self, level: Level, like: Tensor) -> tuple[Tensor, Tensor]:
        """See `NoiseProcess.rates`."""
        # Some devices have no double precision.
        precise = torch.float32 if level.device.type == "mps" else torch.float64
        signal_rate, noise_rate = self.rates_at(level.clamp(min=0).to(precise) / self.levels)
        clean, dtype = level < 0, torch.promote_types(like.dtype, torch.float32)
        shape = (-1, *[1] * (like.ndim - 1))
        signal_rate = torch.where(clean, 1.0, signal_rate).to(dtype)
        noise_rate = torch.where(clean, 0.0, noise_rate).to(dtype)
        return signal_rate.view(shape), noise_rate.view(shape)

    def denoiser_input(self, noisy: Float[Tensor, "b *o"], level: Level) -> tuple[Float[Tensor, "b *o"], Level]:
        """See `NoiseProcess.denoiser_input`."""
        if self.data_std is None:
            return noisy, level
        signal_rate, noise_rate = self.rates(level, noisy)
        return noisy / torch.hypot(signal_rate * self.data_std, noise_rate), level

    def training_levels(self, batch: int, generator: torch.Generator | None = None) -> Level:
        """Draw levels uniformly over 0 to T, from `generator` (on the CPU) or the global generator."""
        return self._uniform(batch, generator) * self.levels

    def _uniform(self, batch: int, generator: torch.Generator | None) -> Float[Tensor, " b"]:
        device = self._placed.device
        if generator is not None:
            return torch.rand(batch, generator=generator, dtype=torch.float32).to(device)
        return torch.rand(batch, device=device, dtype=torch.float32)


class VariancePreserving(ContinuousProcess):
    """α = cos θ and σ = sin θ with an angle that grows uniformly: the cosine schedule over continuous time.

    Args:
        levels: the noisiest level T.
        largest_log_ratio: ln(α/σ) at level 0.
        least_log_ratio: ln(α/σ) at level T (both ends: Hoogeboom et al. 2023, with half their logarithm).
        data_std: standard deviation of the clean observations' values, to scale the denoiser's input to unit
            variance; not scaled if None.
    """

    def __init__(
        self,
        levels: int = 1000,
        largest_log_ratio: Number = 5.0,
        least_log_ratio: Number = -5.0,
        data_std: Number | None = None,
    ) -> None:
        super().__init__(levels, data_std)
        check_finite(largest_log_ratio=largest_log_ratio, least_log_ratio=least_log_ratio)
        if not largest_log_ratio > least_log_ratio:
            raise ValueError(
                f"largest_log_ratio must exceed least_log_ratio, got {largest_log_ratio} and {least_log_ratio}"
            )
        self.first_angle = math.atan(math.exp(-largest_log_ratio))
        self.last_angle = math.atan(math.exp(-least_log_ratio))

    def rates_at(self, time: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """See `ContinuousProcess.rates_at`."""
        angle = self.first_angle + time * (self.last_angle - self.first_angle)
        return angle.cos(), angle.sin()

    def time_at(self, log_ratio: float) -> float:
        """See `ContinuousProcess.time_at`."""
        return (math.atan(math.exp(-log_ratio)) - self.first_angle) / (self.last_angle - self.first_angle)


class VarianceExploding(ContinuousProcess):
    """α = 1, and a noise σ whose logarithm grows uniformly with the level (Song et al. 2021b; Karras et al. 2022).

    The level that denoisers are told is therefore a linear function of ln σ, like EDM's c_noise.

    Args:
        levels: the noisiest level T.
        least_noise: σ at level 0.
        largest_noise: σ at level T.
        data_std: standard deviation of the clean observations' values, to scale the denoiser's input to unit
            variance (EDM: 0.5); if None it is not scaled, and reaches up to `largest_noise`.
        training_log_noise: mean and standard deviation of the normal distribution of ln σ in training (EDM: -1.2
            and 1.2), truncated at the ends; uniform levels if None.
    """

    without_effect = frozenset({"training_log_noise"})

    def __init__(
        self,
        levels: int = 1000,
        least_noise: Number = 0.002,
        largest_noise: Number = 80.0,
        data_std: Number | None = 0.5,
        training_log_noise: tuple[Number, Number] | None = None,
    ) -> None:
        super().__init__(levels, data_std)
        check_above(0, least_noise=least_noise, largest_noise=largest_noise)
        check_finite(training_log_noise=training_log_noise)
        if not least_noise < largest_noise:
            raise ValueError(f"least_noise must be below largest_noise, got {least_noise} and {largest_noise}")
        if training_log_noise is not None and not training_log_noise[1] > 0:
            raise ValueError(f"training_log_noise needs a positive deviation, got {training_log_noise[1]}")
        self.least_noise = least_noise
        self.largest_noise = largest_noise
        self.training_log_noise = training_log_noise

    def prior_std(self, level: Number) -> float:
        """See `NoiseProcess.prior_std`: σ at the level."""
        return self.exact_rates(level)[1]

    def rates_at(self, time: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """See `ContinuousProcess.rates_at`."""
        noise_rate = self.least_noise * (time * math.log(self.largest_noise / self.least_noise)).exp()
        return torch.ones_like(noise_rate), noise_rate

    def time_at(self, log_ratio: float) -> float:
        """See `ContinuousProcess.time_at`."""
        return (-log_ratio - math.log(self.least_noise)) / math.log(self.largest_noise / self.least_noise)

    def training_levels(self, batch: int, generator: torch.Generator | None = None) -> Level:
        """See `ContinuousProcess.training_levels`; with `training_log_noise`, normal in ln σ."""
        if self.training_log_noise is None:
            return super().training_levels(batch, generator)
        mean, deviation = self.training_log_noise
        # By the inverse of the distribution function between its values at the ends, so that nothing accumulates
        # there.
        normal = torch.distributions.Normal(0.0, 1.0)
        ends = torch.tensor([self.least_noise, self.largest_noise], dtype=torch.float64).log()
        low, high = normal.cdf((ends - mean) / deviation)
        shares = low + self._uniform(batch, generator).double() * (high - low)
        log_noise = (mean + deviation * normal.icdf(shares)).clamp(float(ends[0]), float(ends[1]))
        return ((log_noise - ends[0]) / (ends[1] - ends[0]) * self.levels).float()
