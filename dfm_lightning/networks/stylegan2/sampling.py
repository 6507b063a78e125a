"""Samples of a generator, one for each seed, and the statistics of its codes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.networks.frozen import Frozen
from dfm_lightning.networks.stylegan2.generator import Generator
from dfm_lightning.networks.stylegan2.storage import find_generator, generator_hash, read_generator

STATISTICS_SAMPLES = 4096


class CodeStatistics(NamedTuple):
    """Mean and standard deviation of each number of a generator's codes."""

    mean: Float[Tensor, " w_dim"]
    spread: Float[Tensor, " w_dim"]


def draw_noise(generator: Generator, seeds: Sequence[int]) -> Float[Tensor, "b z"]:
    """Draw the noise z of each seed from numpy's `RandomState`, as the official tools do for the same seeds."""
    length = generator.architecture.z_dim
    rows = [np.random.RandomState(seed).randn(length) for seed in seeds]
    return torch.from_numpy(np.stack(rows)).to(generator.mapping.mean_code)


def draw_labels(generator: Generator, seeds: Sequence[int]) -> Float[Tensor, "b label"]:
    """Choose a label for each seed, cycling through them; of length 0 for a generator without labels."""
    labels = generator.architecture.labels
    rows = torch.eye(labels)[[seed % labels for seed in seeds]] if labels > 0 else torch.zeros(len(seeds), 0)
    return rows.to(generator.mapping.mean_code)


@torch.no_grad()
def code_statistics(generator: Generator) -> CodeStatistics:
    """Compute the mean code that truncation pulls to, and the spread of untruncated codes around it."""
    seeds = range(STATISTICS_SAMPLES)
    codes = generator.mapping(draw_noise(generator, seeds), draw_labels(generator, seeds))
    mean = generator.mapping.mean_code
    return CodeStatistics(mean.clone(), (codes - mean).square().mean(dim=0).sqrt())


class GeneratorSamples:
    """A source of a generator's codes and images.

    Args:
        generator: file of a generator (.safetensors), or the name of a shipped one.
        truncation: ψ: codes are pulled to mean + ψ (w − mean). DFM uses 0.5.
    """

    def __init__(self, generator: str, truncation: float = 0.5) -> None:
        self.truncation = truncation
        self._generator = Frozen(read_generator(find_generator(generator)))
        self.fingerprint = generator_hash(self._generator.network)
        self.resolution = self._generator.network.architecture.resolution

    @torch.no_grad()
    def draw(
        self, seeds: Sequence[int], device: torch.device
    ) -> tuple[Float[Tensor, "b w_dim"], Float[Tensor, "b 3 h w"]]:
        """Draw the code of each seed, and its image, clamped to [-1, 1] as in image files."""
        network = self._generator.to(device).network
        codes = network.codes(draw_noise(network, seeds), draw_labels(network, seeds), self.truncation)
        return codes[:, 0], network(codes).clamp(-1, 1)
