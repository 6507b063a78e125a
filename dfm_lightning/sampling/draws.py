"""Draw signals through a forward model (DFM eq. 4 to 6), and split batches of draws."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion import Estimate, MinorityScore, NoiseProcess, ObservationDenoiser, Sampler
from dfm_lightning.errors import UserError
from dfm_lightning.randomness import named_noise
from dfm_lightning.types import Level, Sample, at_least_float32, map_tensors, named_tensors

NoiseNames = list[tuple[str | int, ...]]


def draw_signals(
    denoise: ObservationDenoiser,
    sampler: Sampler,
    process: NoiseProcess,
    names: NoiseNames,
    size: tuple[int, ...],
    device: torch.device,
    worked: Callable[[int], None],
    minority: MinorityScore | None = None,
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
        minority: scores each draw as well, if there is one.
    """
    shape = (denoise.target_views, *size)

    def noise_of(*purpose: str) -> Callable[[], Float[Tensor, "b v c h w"]]:
        draws = count()

        def draw_noise() -> Float[Tensor, "b v c h w"]:
            draw = next(draws)
            return named_noise([(*name, *purpose, draw) for name in names], shape, device)

        return draw_noise

    def evaluate(noisy: Float[Tensor, "b v c h w"], level: Level) -> Estimate:
        estimate = denoise(noisy, level)
        worked(len(names))
        return estimate

    cleans: list[Tensor] = []
    draw_noise = noise_of()
    for step in sampler.sample(evaluate, draw_noise(), process, draw_noise):
        cleans = [*cleans, step.clean][-max(sampler.steps // 2, 1) :]
    scores = {"hallucination": hallucination(cleans)}
    if minority is not None:
        scores["minority"] = minority(
            evaluate, step.noisy, process, noise_of("minority"), sampler.threshold_quantile
        )
    return Sample(step.source, step.noisy, scores)


def hallucination(estimates: list[Float[Tensor, "b *o"]]) -> Float[Tensor, " b"]:
    """Tell how much the clean estimates at the last levels differ: their variance, averaged over the observation.

    Samples that a model makes up between what it has learnt settle late: the hallucination score of Aithal et al.
    (2024, section 5). Comparable between samples of the same model, levels and sampler only.
    """
    stacked = torch.stack(estimates)
    return stacked.to(at_least_float32(stacked)).var(dim=0, correction=0).flatten(1).mean(dim=1)


def scores_of(sample: Sample, row: int) -> dict[str, float]:
    """Give the scores of one draw of a batch."""
    return {name: score[row].item() for name, score in sample.scores.items()}


def draw_groups(pending: list[int], size: int) -> Iterator[range]:
    """Yield the batches that contain some draws: 0 to size − 1, and so on, each whole."""
    for group in sorted({draw // size for draw in pending}):
        yield range(group * size, (group + 1) * size)


def one_by_one(signals: Any, count: int) -> list[Any]:
    """Split a batch of signals into batches of one.

    Raises:
        UserError: there are several signals, and they are not a tree of tensors.
    """
    if count == 1:
        return [signals]
    if not any(len(tensor) == count for _, tensor in named_tensors(signals, "")):
        raise UserError(
            f"signals of {type(signals).__name__} are not trees of tensors, so that no batch of them can be "
            "taken apart: set draw_batch to 1"
        )
    return [map_tensors(lambda tensor, i=index: tensor[i : i + 1], signals) for index in range(count)]
