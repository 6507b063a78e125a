"""Noise processes: the noising of clean observations, and the algebra between clean, noise and noisy."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.ranges import check_above
from dfm_lightning.record import Recorded
from dfm_lightning.types import Level

Number = float | int


def cosine_schedule(levels: int, offset: float = 0.008, max_beta: float = 0.999) -> Float[Tensor, " levels"]:
    """Return ᾱ of the cosine schedule (Nichol and Dhariwal 2021, eq. 17), in float64, β clipped to `max_beta`."""
    times = torch.linspace(0, levels, levels + 1, dtype=torch.float64) / levels
    signal = torch.cos((times + offset) / (1 + offset) * torch.pi / 2) ** 2
    betas = (1 - signal[1:] / signal[:-1]).clamp(0, max_beta)
    return torch.cumprod(1 - betas, dim=0)


class NoiseProcess(Recorded, nn.Module, ABC):
    """A noising of observations: x_t = α_t x_0 + σ_t ε, with a signal rate α_t and a noise rate σ_t at level t.

    Level 0 is the least noisy one, `last_level` the noisiest. Negative levels stand for the clean observation
    itself (α = 1, σ = 0). λ = ln(α/σ), half the logarithm of the signal-to-noise ratio, falls with the level.
    All algebra is in float32 (or the observation's precision, if that is higher), whatever the precision of
    the networks.
    """

    @property
    @abstractmethod
    def levels(self) -> int:
        """Return the number T of noise levels; over continuous time, the largest level."""

    @property
    @abstractmethod
    def last_level(self) -> Number:
        """Return the noisiest level."""

    @property
    def integer_levels(self) -> bool:
        """Tell whether levels are integers, as denoisers trained on a discrete process need them."""
        return False

    def prior_std(self, level: Number) -> float:
        """Return the standard deviation of the noise with which sampling begins at a level."""
        return 1.0

    @abstractmethod
    def exact_rates(self, level: Number) -> tuple[float, float]:
        """Return (α, σ) of one level in double precision; (1, 0) for negative levels."""

    @abstractmethod
    def level_at(self, log_ratio: Number) -> float:
        """Return the level at which ln(α/σ) is `log_ratio`, not rounded; the nearest end outside the range."""

    @abstractmethod
    def rates(self, level: Level, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return α and σ at each level, shaped to multiply `like` [b ...]; 1 and 0 for negative levels."""

    @abstractmethod
    def training_levels(self, batch: int, generator: torch.Generator | None = None) -> Level:
        """Draw the levels of a training batch."""

    def log_ratio(self, level: Number) -> float:
        """Return λ = ln(α/σ) at a level, in double precision; infinite for negative levels."""
        signal_rate, noise_rate = self.exact_rates(level)
        return math.log(signal_rate / noise_rate) if noise_rate > 0 else math.inf

    def denoiser_input(self, noisy: Float[Tensor, "b *o"], level: Level) -> tuple[Float[Tensor, "b *o"], Level]:
        """Return the denoiser's input for a noisy observation and its level."""
        return noisy, level

    def add_noise(self, clean: Float[Tensor, "b *o"], noise: Float[Tensor, "b *o"], level: Level) -> Tensor:
        """Return the noisy observation at a level (DFM eq. 3, forward process)."""
        signal_rate, noise_rate = self.rates(level, clean)
        return signal_rate * clean + noise_rate * noise

    def noise_from_clean(self, noisy: Float[Tensor, "b *o"], clean: Float[Tensor, "b *o"], level: Level) -> Tensor:
        """Return the noise that leads from a clean observation to a noisy one (level ≥ 0)."""
        signal_rate, noise_rate = self.rates(level, noisy)
        return (noisy - signal_rate * clean) / noise_rate

    def clean_from_noise(self, noisy: Float[Tensor, "b *o"], noise: Float[Tensor, "b *o"], level: Level) -> Tensor:
        """Return the clean observation, given the noisy one and the noise in it."""
        signal_rate, noise_rate = self.rates(level, noisy)
        return (noisy - noise_rate * noise) / signal_rate


class DiscreteProcess(NoiseProcess):
    """A variance-preserving process over integer levels: x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε.

    Args:
        alphas_cumprod: ᾱ of every level, falling and within 0 and 1; in float64, for exact rates.
    """

    alphas_cumprod: Tensor
    signal_rates: Tensor
    noise_rates: Tensor

    def __init__(self, alphas_cumprod: Float[Tensor, " levels"]) -> None:
        super().__init__()
        # Not buffers: these stay in double precision when the module is cast, and samplers' coefficients are
        # computed from them on the CPU. The roots are taken before rounding: 1 − ᾱ has few digits left in float32
        # at the first levels.
        exact = alphas_cumprod.detach().double().cpu().numpy()
        self._exact_alphas = exact
        self._exact_rates = np.stack([np.sqrt(exact), np.sqrt(1 - exact)], axis=1)
        for name, values in self._exact_buffers().items():
            self.register_buffer(name, values.float(), persistent=False)

    def _exact_buffers(self) -> dict[str, Tensor]:
        columns = (self._exact_alphas, *self._exact_rates.T)
        names = ("alphas_cumprod", "signal_rates", "noise_rates")
        return {name: torch.from_numpy(column.copy()) for name, column in zip(names, columns, strict=True)}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "DiscreteProcess":
        """Follow the model to another device; to another precision too, but not below float32."""
        before = self.alphas_cumprod.dtype
        super()._apply(fn, recurse)
        device, after = self.alphas_cumprod.device, self.alphas_cumprod.dtype
        if after != before:
            dtype = torch.promote_types(after, torch.float32)
            for name, values in self._exact_buffers().items():
                setattr(self, name, values.to(dtype).to(device))
        return self

    @property
    def levels(self) -> int:
        """Return the number T of noise levels."""
        return len(self.alphas_cumprod)

    @property
    def last_level(self) -> int:
        """See `NoiseProcess.last_level`: T − 1."""
        return self.levels - 1

    @property
    def integer_levels(self) -> bool:
        """See `NoiseProcess.integer_levels`."""
        return True

    def exact_rates(self, level: Number) -> tuple[float, float]:
        """See `NoiseProcess.exact_rates`; the level is an integer."""
        if level < 0:
            return 1.0, 0.0
        signal_rate, noise_rate = self._exact_rates[int(level)]
        return float(signal_rate), float(noise_rate)

    def level_at(self, log_ratio: Number) -> float:
        """See `NoiseProcess.level_at`; between levels, λ is linear in the level."""
        signal_rates, noise_rates = self._exact_rates.T
        return float(np.interp(-log_ratio, np.log(noise_rates / signal_rates), np.arange(self.levels)))

    def alpha_bar(self, level: Level, like: Tensor) -> Tensor:
        """Return ᾱ at each level, shaped to multiply `like` [b ...]; 1 where the level is negative."""
        alpha = torch.where(level < 0, 1.0, self.alphas_cumprod[level.clamp(min=0)])
        return alpha.view(-1, *[1] * (like.ndim - 1))

    def rates(self, level: Level, like: Tensor) -> tuple[Tensor, Tensor]:
        """See `NoiseProcess.rates`."""
        shape = (-1, *[1] * (like.ndim - 1))
        index, clean = level.clamp(min=0), level < 0
        signal_rate = torch.where(clean, 1.0, self.signal_rates[index])
        noise_rate = torch.where(clean, 0.0, self.noise_rates[index])
        return signal_rate.view(shape), noise_rate.view(shape)


class CosineProcess(DiscreteProcess):
    """The cosine schedule, as in DFM.

    Args:
        levels: number T of noise levels.
        emphasis: which levels training draws oftener, above −1: the density of level t is proportional to
            t^emphasis. 0 is uniform, as in DFM. Above 0 noisy levels, which decide what is hidden. Below 0 those
            with little noise, for contexts that leave little open: only there the noisy target says more. The
            cleanest tenth of the levels then has the probability 10^(−1 − emphasis), 0.32 at −0.5.
    """

    def __init__(self, levels: int = 1000, emphasis: float = 0.0) -> None:
        if levels < 1:
            raise ValueError(f"levels must be at least 1, got {levels}")
        check_above(-1, emphasis=emphasis)
        super().__init__(cosine_schedule(levels))
        self.emphasis = emphasis

    def training_levels(self, batch: int, generator: torch.Generator | None = None) -> Level:
        """Draw levels within 0..T−1, from `generator` (on the CPU) or the global generator."""
        device = self.alphas_cumprod.device
        if self.emphasis != 0:
            place = torch.device("cpu") if generator is not None else device
            uniform = torch.rand(batch, dtype=torch.float64, generator=generator, device=place)
            drawn = self.levels * uniform ** (1 / (1 + self.emphasis))
            return drawn.long().clamp(max=self.last_level).to(device)
        if generator is not None:
            return torch.randint(self.levels, (batch,), generator=generator).to(device)
        return torch.randint(self.levels, (batch,), device=device)
