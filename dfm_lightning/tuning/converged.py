"""Samples that have converged, and how near to them a sampler with few evaluations comes."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion import NoiseProcess, Sampler
from dfm_lightning.diffusion.samplers import Denoise, last_step
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.randomness import named_noise
from dfm_lightning.sampling import NoiseNames
from dfm_lightning.types import Batch


class Problem(NamedTuple):
    """A sampler's inputs for some scenes: a function to call, initial noise, names for further noise."""

    names: NoiseNames
    denoise: Denoise
    noise: Float[Tensor, "b *o"]

    def sampled(self, sampler: Sampler, process: NoiseProcess) -> Float[Tensor, "b *o"]:
        """Return the observations that a sampler ends with."""
        draws = 0

        def draw_noise() -> Tensor:
            nonlocal draws
            draws += 1
            names = [(*name, draws) for name in self.names]
            return named_noise(names, tuple(self.noise.shape[1:]), self.noise.device).to(self.noise)

        return last_step(sampler, self.denoise, self.noise, process, draw_noise).noisy


def problems_of(model: DiffusionWithForwardModel, batches: Iterable[Batch], draws: int = 1) -> Iterator[Problem]:
    """Pose the problems of scenes' contexts and targets, a batch at a time; noise depends on key and seed alone.

    Args:
        model: in evaluation mode.
        batches: scenes, on the model's device.
        draws: samples for each scene.
    """
    for batch in batches:
        names: NoiseNames = [("tune", key, draw) for key in batch.key for draw in range(draws)]
        denoise = model.observation_denoiser(batch.context, batch.target.params, len(names))
        size = model.target_size(batch.context)
        yield Problem(
            names, denoise, named_noise(names, (denoise.target_views, *size), batch.context.observation.device)
        )


def errors(
    sampler: Sampler, process: NoiseProcess, problems: list[Problem], converged: list[Float[Tensor, "b *o"]]
) -> list[float]:
    """Return each sample's distance from the converged one: the root mean square over its observation."""
    found = []
    for problem, expected in zip(problems, converged, strict=True):
        difference = (problem.sampled(sampler, process) - expected.to(problem.noise)).float()
        found += difference.flatten(1).square().mean(dim=1).sqrt().tolist()
    return found
