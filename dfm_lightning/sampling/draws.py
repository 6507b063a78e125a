"""Draw signals through a forward model (DFM eq. 4 to 6), and split batches of draws."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion import Estimate, NoiseProcess, ObservationDenoiser, Sampler
from dfm_lightning.diffusion.samplers import last_step
from dfm_lightning.errors import UserError
from dfm_lightning.randomness import named_noise
from dfm_lightning.types import Level, Sample, map_tensors, named_tensors

NoiseNames = list[tuple[str | int, ...]]


def draw_signals(
    denoise: ObservationDenoiser,
    sampler: Sampler,
    process: NoiseProcess,
    names: NoiseNames,
    size: tuple[int, ...],
    device: torch.device,
    worked: Callable[[int], None],
) -> Sample:
    """Draw signals by denoising target observations.

    Args:
        denoise: holds the context, and the parameters of the v targets, of `len(names)` draws.
        sampler: the reverse process.
        process: the noise process it reverses.
        names: one name for each draw; its noise depends on the name and the seed alone.
        size: shape (c, h, w) of a target observation.
        device: where to draw.
        worked: told of each evaluation, one piece of work for each draw.
    """
    draws = count()
    shape = (denoise.target_views, *size)

    def draw_noise() -> Float[Tensor, "b v c h w"]:
        draw = next(draws)
        return named_noise([(*name, draw) for name in names], shape, device)

    def evaluate(noisy: Float[Tensor, "b v c h w"], level: Level) -> Estimate:
        estimate = denoise(noisy, level)
        worked(len(names))
        return estimate

    last = last_step(sampler, evaluate, draw_noise(), process, draw_noise)
    return Sample(last.source, last.noisy)


def draw_groups(pending: list[int], size: int) -> Iterator[range]:
    """Yield the batches that contain some draws: 0 to size − 1, and so on, each whole."""
    for group in sorted({draw // size for draw in pending}):
        yield range(group * size, (group + 1) * size)


def one_by_one(signals: Any, count: int) -> list[Any]:
    """Split a batch of signals into batches of one.

    Raises:
        UserError: there are several signals, and they are no tree of tensors.
    """
    if count == 1:
        return [signals]
    if not any(len(tensor) == count for _, tensor in named_tensors(signals, "")):
        raise UserError(
            f"signals of {type(signals).__name__} are no trees of tensors, so that no batch of them can be "
            "taken apart: set draw_batch to 1"
        )
    return [map_tensors(lambda tensor, i=index: tensor[i : i + 1], signals) for index in range(count)]
