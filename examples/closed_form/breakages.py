"""Ways to break a model on purpose: what a test of its samples has to notice."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion import DDIM, Denoise, DrawNoise, NoiseProcess, Sampler, SamplingStep
from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.interfaces import SignalDenoiser
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.types import Level, Views


class SameLevel(SignalDenoiser):
    """A denoiser that is told the same noise level at every step."""

    def __init__(self, denoiser: SignalDenoiser, level: int) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.level = level

    def condition(self, context: Views, target_params: Any) -> Any:
        """See `SignalDenoiser`."""
        return self.denoiser.condition(context, target_params)

    def forward(self, noisy: Float[Tensor, "b v c h w"], level: Level, conditioning: Any) -> Any:
        """See `SignalDenoiser`."""
        return self.denoiser(noisy, torch.full_like(level, self.level), conditioning)


class WithoutLastStep(DDIM):
    """Ends one step too early."""

    def sample(
        self, denoise: Denoise, noise: Float[Tensor, "b *o"], process: NoiseProcess, draw_noise: DrawNoise
    ) -> Iterator[SamplingStep]:
        """See `Sampler.sample`."""
        *steps, _ = super().sample(denoise, noise, process, draw_noise)
        yield from steps


class NoisyLastStep(DDIM):
    """Takes −1, the level without noise, for an index: that of the last and noisiest level."""

    def levels(self, process: NoiseProcess) -> list[Number]:
        """See `DDIM.levels`."""
        return [*super().levels(process)[:-1], process.levels - 1]


class LastStepSkipsLevels(DDIM):
    """Jumps to the end from the middle."""

    def levels(self, process: NoiseProcess) -> list[Number]:
        """See `DDIM.levels`."""
        levels = super().levels(process)
        return [*levels[: len(levels) // 2], -1]


def told_the_same_level(model: DiffusionWithForwardModel, level: int = 500) -> DiffusionWithForwardModel:
    """A copy of a model whose denoiser does not know how noisy its input is."""
    broken = copy.deepcopy(model)
    broken.denoiser = SameLevel(broken.denoiser, level)
    return broken


def sampled_by(model: DiffusionWithForwardModel, sampler: Sampler) -> DiffusionWithForwardModel:
    """A copy of a model with another sampler."""
    other = copy.deepcopy(model)
    other.sampler = sampler
    return other


@contextmanager
def level_embedding_of_zeros() -> Iterator[None]:
    """While this is open, networks see nothing of the noise level, in training either."""

    def zeros(level: Level, width: int, *_: Any, dtype: torch.dtype) -> Float[Tensor, "b w"]:
        return torch.zeros(*level.shape, width, dtype=dtype)

    with mock.patch("dfm_lightning.networks.embeddings.level_sinusoids", zeros):
        yield
