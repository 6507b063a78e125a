"""The small synthetic root of these tests, and what they do with it."""

import gzip
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from posed_settings import made

from datamodules.co3d import Co3DDataModule
from datamodules.synthetic.co3d import write_synthetic_co3d
from dfm_lightning.types import Batch

HEIGHT, WIDTH, FRAMES = 48, 40, 12


def write_small_root(root: Path, seed: int = 0) -> None:
    write_synthetic_co3d(
        root, train_scenes=4, val_scenes=1, test_scenes=3, frames=FRAMES, height=HEIGHT, width=WIDTH, seed=seed
    )


def module(root: Path, **options: object) -> Co3DDataModule:
    usual = {"image_size": 16, "batch_size": 2, "workers": 0, "views": {"contexts": 2, "distance": (2, 3)}}
    return made(Co3DDataModule, {"root": str(root), "category": "toy", **usual}, **options)


def train_batches(data: Co3DDataModule, count: int) -> list[Batch]:
    """The first batches, over as many epochs as it takes."""
    loader = data.train_dataloader()

    def endless():
        while True:
            yield from loader

    return list(islice(endless(), count))


def edit_frames(root: Path, change: Callable[[dict], None]) -> None:
    path = root / "toy" / "frame_annotations.jgz"
    frames = json.loads(gzip.decompress(path.read_bytes()))
    for frame in frames:
        change(frame)
    path.write_bytes(gzip.compress(json.dumps(frames).encode()))
