"""A 60-frame circle around sampled scenes: rendered from the baked scene, beside rendering from the model.

    dfm data make-co3d demo/objects --train_scenes 32 --val_scenes 4 --test_scenes 8 --frames 16 --height 64 \\
        --width 64 --plain true --seed 1
    python benchmarks/baking.py co3d_demo --root demo/objects

One sample of each test scene. Both render fifteen frames in turn in one process, so that other work on the machine
slows both: only the ratio of their CPU seconds counts. The PSNR is that of the baked frames against the model's.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from sampler_errors import data_of
from torch import Tensor

import dfm_lightning
from dfm_lightning.baking import BakedScene, bake_scene, render_scene
from dfm_lightning.checkpoints.shipped import find_checkpoint
from dfm_lightning.checkpoints.stored_config import stored_config
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.signals import RadianceField
from dfm_lightning.types import Cameras, Observed, concatenate, select_views


def timed(work: Callable[..., Any], *inputs: Any) -> tuple[float, Any]:
    """Run something: its CPU seconds, and what it returns."""
    start = time.process_time()
    result = work(*inputs)
    return time.process_time() - start, result


# Frames that one renders before the other: a video is rendered frame after frame, with its scene in the cache.
BLOCK = 15


class Sampled(NamedTuple):
    """A sampled scene, its renderer, the cameras of a circle together and one by one, what the renderer shows."""

    key: str
    field: RadianceField
    renderer: VolumeRendering
    cameras: Cameras
    views: list[Cameras]
    shown: Observed

    def bake(self, resolution: int) -> BakedScene:
        """Store the scene on a grid."""
        details = self.shown.auxiliary
        return bake_scene(
            self.field, self.renderer, self.cameras, details.depth[0], details.opacity[0], resolution
        )


@torch.no_grad()
def circles(name: str, root: str | None, scenes: int, frames: int, size: int) -> Iterator[Sampled]:
    """Draw one sample of each of the first test scenes, as `dfm predict` does."""
    model: Any = dfm_lightning.load(name)
    config = stored_config(find_checkpoint(name))
    settings = config["data"]["init_args"]
    settings["prediction"] = {"trajectory": "circle", "frames": frames, "size": size}
    settings.setdefault("scenes", {})["test"] = scenes
    data = data_of(config, root)
    data.prepare_data()
    data.setup("predict")
    model.eval()
    for request in data.predict_dataloader():
        key = request.key[0]
        field = model.sample_around(request.context, request.params, [("predict", key, 0)])[0].signal
        renderer, cameras = model.forward_model.centred(), model.forward_model.aligned(request.params)
        views = [select_views(cameras, slice(view, view + 1)) for view in range(frames)]
        shown = concatenate([renderer.observe(field, view) for view in views], dim=1)
        yield Sampled(key, field, renderer, cameras, views, shown)


def print_row(*cells: object) -> None:
    """Print a row of a table in Markdown."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def compared(direct: list[tuple[float, Tensor]], baked: list[tuple[float, Tensor]]) -> list[str]:
    """Say how long both took together, their ratio, that of single frames, and the PSNR of all frames."""
    whole = [sum(seconds for seconds, _ in runs) for runs in (direct, baked)]
    ratios = [one[0] / other[0] for one, other in zip(direct, baked, strict=True)]
    pairs = zip(direct, baked, strict=True)
    error = statistics.mean(float((image - exact[0]).square().mean()) / 4 for (_, exact), (_, image) in pairs)
    return [
        *(f"{seconds:.2f} s" for seconds in whole),
        f"{whole[0] / whole[1]:.1f}",
        f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})",
        f"{-10 * math.log10(error):.1f} dB",
    ]


@torch.no_grad()
def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a shipped model or a checkpoint, of posed images")
    parser.add_argument("--root", help="where its data set lies; as its config says if not given")
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", type=int, default=64, help="pixels along a side of a frame")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[96, 192], help="cells along a side")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    titles = ["scene", "cells", "baking", "direct", "baked", "direct / baked", "by frame", "PSNR", "bricks"]
    print_row(*titles)
    print(f"|{'---|' * len(titles)}")
    for sampled in circles(arguments.model, arguments.root, arguments.scenes, arguments.frames, arguments.size):
        scenes = [timed(sampled.bake, resolution) for resolution in arguments.resolutions]
        direct, quick = [], [[] for _ in scenes]
        for first in range(0, arguments.frames, BLOCK):
            block = sampled.views[first : first + BLOCK]
            direct += [timed(sampled.renderer, sampled.field, view) for view in block]
            for (_, scene), runs in zip(scenes, quick, strict=True):
                runs += [timed(render_scene, scene, view) for view in block]
        for resolution, (baking, scene), runs in zip(arguments.resolutions, scenes, quick, strict=True):
            print_row(sampled.key, resolution, f"{baking:.1f} s", *compared(direct, runs), len(scene.field.values))


if __name__ == "__main__":
    main()
