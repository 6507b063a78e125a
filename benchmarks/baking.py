"""A 60-frame circle around sampled scenes: rendered from the baked scene, beside rendering from the model.

    dfm data make-co3d demo/co3d --train_scenes 32 --val_scenes 4 --test_scenes 8 --frames 16 --height 64 \\
        --width 64 --seed 1
    python benchmarks/baking.py co3d_demo --root demo/co3d

One sample of each test scene. Both render each frame in turn in one process, so that other work on the machine
slows both: only the ratio of their CPU seconds counts. The PSNR is that of the baked frames against the model's.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from sampler_errors import data_of

import dfm_lightning
from dfm_lightning.baking import bake_scene, render_scene
from dfm_lightning.checkpoints.shipped import find_checkpoint
from dfm_lightning.checkpoints.stored_config import stored_config
from dfm_lightning.sampling import evaluating
from dfm_lightning.types import concatenate, select_views


def timed(work: Callable[..., Any], *inputs: Any) -> tuple[float, Any]:
    """Run something: its CPU seconds, and what it returns."""
    start = time.process_time()
    result = work(*inputs)
    return time.process_time() - start, result


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
    model: Any = dfm_lightning.load(arguments.model)
    config = stored_config(find_checkpoint(arguments.model))
    config["data"]["init_args"]["prediction"] = {
        "trajectory": "circle",
        "frames": arguments.frames,
        "size": arguments.size,
    }
    config["data"]["init_args"].setdefault("scenes", {})["test"] = arguments.scenes
    data = data_of(config, arguments.root)
    data.prepare_data()
    data.setup("predict")
    titles = ["scene", "cells", "baking", "direct", "baked", "direct / baked", "by frame", "PSNR", "bricks"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    with evaluating(model), torch.no_grad():
        for request in data.predict_dataloader():
            key = request.key[0]
            field = model.sample_around(request.context, request.params, [("baking", key)])[0].signal
            renderer, cameras = model.forward_model.centred(), model.forward_model.aligned(request.params)
            views = [select_views(cameras, slice(view, view + 1)) for view in range(arguments.frames)]
            shown = concatenate([renderer.observe(field, view) for view in views], dim=1)
            details = shown.auxiliary
            for resolution in arguments.resolutions:
                baking, scene = timed(
                    bake_scene, field, renderer, cameras, details.depth[0], details.opacity[0], resolution
                )
                seconds, errors = [], []
                for view in views:
                    direct, exact = timed(renderer, field, view)
                    quick, image = timed(render_scene, scene, view)
                    seconds.append((direct, quick))
                    errors.append(float((image - exact[0]).square().mean()) / 4)
                directly, baked = (sum(column) for column in zip(*seconds, strict=True))
                ratios = [direct / quick for direct, quick in seconds]
                row = [key, resolution, f"{baking:.1f} s", f"{directly:.1f} s", f"{baked:.2f} s"]
                row += [f"{directly / baked:.1f}"]
                row += [f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"]
                row += [f"{-10 * math.log10(statistics.mean(errors)):.1f} dB", len(scene.field.values)]
                print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
