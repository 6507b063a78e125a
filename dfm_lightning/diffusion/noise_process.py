"""The forward noising process and the algebra between clean observation, noise and noisy observation."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.types import Level


def cosine_schedule(levels: int, offset: float = 0.008, max_beta: float = 0.999) -> Float[Tensor, " levels"]:
    """ᾱ of the cosine schedule (Nichol and Dhariwal 2021, eq. 17), in float64, β clipped to `max_beta`."""
    times = torch.linspace(0, levels, levels + 1, dtype=torch.float64) / levels
    signal = torch.cos((times + offset) / (1 + offset) * torch.pi / 2) ** 2
    betas = (1 - signal[1:] / signal[:-1]).clamp(0, max_beta)
    return torch.cumprod(1 - betas, dim=0)


class NoiseProcess(nn.Module, ABC):
    """A discrete variance-preserving process: x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε at integer levels t.

    Level 0 is the least noisy one. Level −1 stands for the clean observation itself (ᾱ = 1). All algebra is
    in float32 (or the schedule's precision, if raised), whatever the precision of the networks.
    """

    alphas_cumprod: Tensor
    signal_rates: Tensor
    noise_rates: Tensor

    def __init__(self, alphas_cumprod: Float[Tensor, " levels"]) -> None:
        super().__init__()
        # The roots are taken before rounding: 1 − ᾱ has few digits left in float32 at the first levels.
        self.register_buffer("alphas_cumprod", alphas_cumprod.float(), persistent=False)
        self.register_buffer("signal_rates", alphas_cumprod.sqrt().float(), persistent=False)
        self.register_buffer("noise_rates", (1 - alphas_cumprod).sqrt().float(), persistent=False)

    @property
    def levels(self) -> int:
        """The number T of noise levels."""
        return len(self.alphas_cumprod)

    def alpha_bar(self, level: Level, like: Tensor) -> Tensor:
        """ᾱ at each level, shaped to multiply `like` [b ...]; 1 where the level is −1."""
        alpha = torch.where(level < 0, 1.0, self.alphas_cumprod[level.clamp(min=0)])
        return alpha.view(-1, *[1] * (like.ndim - 1))

    def rates(self, level: Level, like: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ and √(1 − ᾱ) at each level, shaped to multiply `like` [b ...]; 1 and 0 where the level is −1."""
        shape = (-1, *[1] * (like.ndim - 1))
        index, clean = level.clamp(min=0), level < 0
        signal_rate = torch.where(clean, 1.0, self.signal_rates[index])
        noise_rate = torch.where(clean, 0.0, self.noise_rates[index])
        return signal_rate.view(shape), noise_rate.view(shape)

    def add_noise(self, clean: Float[Tensor, "b *o"], noise: Float[Tensor, "b *o"], level: Level) -> Tensor:
        """The noisy observation at a level (DFM eq. 3, forward process)."""
        signal_rate, noise_rate = self.rates(level, clean)
        return signal_rate * clean + noise_rate * noise

    def noise_from_clean(self, noisy: Float[Tensor, "b *o"], clean: Float[Tensor, "b *o"], level: Level) -> Tensor:
        """The noise that leads from a clean observation to a noisy one (level ≥ 0)."""
        signal_rate, noise_rate = self.rates(level, noisy)
        return (noisy - signal_rate * clean) / noise_rate

    def clean_from_noise(self, noisy: Float[Tensor, "b *o"], noise: Float[Tensor, "b *o"], level: Level) -> Tensor:
        """The clean observation, given the noisy one and the noise in it."""
        signal_rate, noise_rate = self.rates(level, noisy)
        return (noisy - noise_rate * noise) / signal_rate

    @abstractmethod
    def training_levels(self, batch: int, generator: torch.Generator | None = None) -> Level:
        """Draw the levels of a training batch."""


class CosineProcess(NoiseProcess):
    """The cosine schedule with uniformly drawn training levels, as in DFM.

    Args:
        levels: number T of noise levels.
    """

    def __init__(self, levels: int = 1000) -> None:
        if levels < 1:
            raise ValueError(f"levels must be at least 1, got {levels}")
        super().__init__(cosine_schedule(levels))

    def training_levels(self, batch: int, generator: torch.Generator | None = None) -> Level:
        """Uniform over 0..T−1; from `generator` (on the CPU) if one is given, else the global generator."""
        device = self.alphas_cumprod.device
        if generator is not None:
            return torch.randint(self.levels, (batch,), generator=generator).to(device)
        return torch.randint(self.levels, (batch,), device=device)
