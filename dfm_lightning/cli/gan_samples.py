"""`dfm data gan-samples`: draw the samples of a generator in advance."""

from pathlib import Path
from typing import Literal

import torch
from rich.progress import track

from datamodules.ffhq_gan import SampleCache
from dfm_lightning.errors import UserError
from dfm_lightning.networks.stylegan2.sampling import GeneratorSamples


def draw_gan_samples(
    folder: Path,
    generator: str,
    first: int = 0,
    count: int = 10_000,
    truncation: float = 0.5,
    resolution: int = 64,
    part: int = 0,
    parts: int = 1,
    device: Literal["cpu", "cuda"] = "cpu",
) -> None:
    """Draw samples of a StyleGAN2 generator in advance, into a folder for `data.cache`.

    Existing samples are kept: an interrupted run continues where it stopped. Several runs, each with another
    `part` of the same `parts`, share the work.

    Args:
        folder: where to write.
        generator: file of a generator (.safetensors), or the name of a shipped one.
        first: the first seed.
        count: number of seeds.
        truncation: codes are pulled to mean + ψ (w − mean) by this ψ.
        resolution: height and width that images are downsampled to.
        part: the share of this run, counted from 0.
        parts: number of runs that share the work.
        device: where to compute.
    """
    if not 0 <= part < parts:
        raise UserError(f"part must be from 0 to parts − 1, got part {part} of {parts}")
    cache = SampleCache(folder, GeneratorSamples(generator, truncation), resolution)
    missing = cache.missing([range(first, first + count)], part, parts)
    for shard in track(missing, "drawing samples", disable=not missing):
        cache.make(shard, torch.device(device))
    share = f"part {part} of {parts} of " if parts > 1 else ""
    print(f"{folder} holds {share}the samples of seeds {first} to {first + count - 1}")
