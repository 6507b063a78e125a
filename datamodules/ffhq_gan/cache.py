"""Samples of a generator on disk: made once, in parts, by one process or several."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from datamodules.ffhq_gan.samples import ImageGenerator
from datamodules.ffhq_gan.shards import SHARD, Shards
from datamodules.json_files import read_json
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file, write_json
from dfm_lightning.geometry.images import downsample

DRAWN_AT_ONCE = 32

_log = logging.getLogger(__name__)


class SampleCache:
    """A folder of samples, addressed by their seeds.

    `cache.json` says what the samples were made from: a folder made with another generator, truncation or
    resolution is refused. A shard is a file of codes and a file of images. The latter is written last and as a
    whole, so an interruption never leaves half a shard, and processes may share the work.

    Args:
        folder: where the samples are, or will be.
        generator: the generator they are sampled from.
        resolution: height and width that images are downsampled to.
    """

    def __init__(self, folder: Path, generator: ImageGenerator, resolution: int) -> None:
        self.folder = folder
        self.generator = generator
        self.resolution = resolution
        self.shards = Shards(folder, resolution)
        self._claim()

    def _claim(self) -> None:
        """Record what the folder holds, or check that it holds the same."""
        wanted = {
            "generator": self.generator.fingerprint,
            "truncation": self.generator.truncation,
            "resolution": self.resolution,
            "shard": SHARD,
        }
        path = self.folder / "cache.json"
        try:
            found = read_json(path)
            if not isinstance(found, dict):
                raise ValueError("its content is of another type")
        except FileNotFoundError:
            write_json(path, wanted)
            return
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}): remove it or choose another folder") from error
        for name, value in wanted.items():
            if found.get(name) != value:
                raise UserError(
                    f"the samples in {self.folder} were made with {name} {found.get(name)}, not {value}: "
                    "choose another folder, or remove this one"
                )

    def missing(self, seeds: Iterable[range], part: int = 0, parts: int = 1) -> list[int]:
        """List the missing or unreadable shards among those that hold the given seeds.

        If several parts share the work, each shard belongs to one of them, whatever the others have made by now.
        """
        shards = {shard for part in seeds if part for shard in range(part[0] // SHARD, part[-1] // SHARD + 1)}
        return [shard for shard in sorted(shards) if shard % parts == part and not self._is_there(shard)]

    def _is_there(self, shard: int) -> bool:
        if not self.shards.images(shard).exists():
            return False
        problem = self.shards.problem(shard)
        if problem is not None:
            _log.warning("%s; it is made again", problem)
        return problem is None

    def make(self, shard: int, device: torch.device) -> None:
        """Draw and write one shard."""
        seeds = range(shard * SHARD, (shard + 1) * SHARD)
        codes, images = [], []
        for first in range(0, SHARD, DRAWN_AT_ONCE):
            code, image = self.generator.draw(seeds[first : first + DRAWN_AT_ONCE], device)
            small = downsample(image, (self.resolution, self.resolution))
            codes.append(code.cpu())
            images.append(((small.clamp(-1, 1) + 1) * 127.5).round().byte().cpu())
        for path, parts in ((self.shards.codes(shard), codes), (self.shards.images(shard), images)):
            with whole_file(path) as aside:
                np.save(aside, torch.cat(parts).numpy(), allow_pickle=False)


def unit_images(images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Convert 8-bit images to [-1, 1]."""
    return images.float() / 127.5 - 1
