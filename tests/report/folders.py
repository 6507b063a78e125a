"""Folders as runs leave them, written by the reports and writers themselves where that is quick."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from dfm_lightning.callbacks.output import write_png
from dfm_lightning.callbacks.output.layers import Layer, Layers, write_layers
from dfm_lightning.callbacks.report_tables import average_scores
from dfm_lightning.files import write_json

SIZE = 8
SETTINGS = {
    "seed": 0, "weights": "0123456789abcdef", "precision": "32-true", "model": "InverseGraphics",
    "sampler": "DDIM", "sampler.steps": 8, "sampler.eta": 0.0, "guidance_scale": 1.0, "samples": 2,
    "report": "SceneReport",
}  # fmt: skip


def write_test(
    folder: Path,
    quality: dict[str, float],
    finished: bool = True,
    sketch: str = "1x3: 1 2 3",
    pictures: bool = True,
    **settings: Any,
) -> None:
    """A test's folder: `psnr_mean` of each scene as given, `lpips_mean` and `spread` that follow from it."""
    used = {**SETTINGS, **settings}
    scenes = {}
    for number, (key, value) in enumerate(quality.items()):
        scores = {"target": {"psnr_mean": value, "rmse": 10 ** (-value / 20), "spread": 0.1 + 0.01 * number}}
        scenes[key] = scores
        made = {"key": key, "version": 2, "data": {"context.observation": sketch}, "scores": scores}
        write_json(folder / "scenes" / f"{key}.json", {**made, "made_with": used, "measured_with": {}})
        if pictures:
            write_layers(folder / "pictures" / f"{key}.png", scene_layers(number, value))
        else:
            write_png(folder / "sheets" / f"{key}.png", noise(number, 1)[0])
    if finished:
        report = {
            "average": average_scores(scenes.values()),
            "joint": {
                "hidden look": {"total_variation": 0.2, "total_variation_low": 0.1, "total_variation_high": 0.3},
                "look red": {"share": 0.4, "share_low": 0.3, "share_high": 0.5, "true_probability": 0.5},
            },
            "missing": {"lpips": "LPIPS needs weights"},
            "notes": {"look": "looks of what is hidden"},
            "settings": {**used, "scenes": len(scenes), "resolution": [SIZE, SIZE], "config": {"model": {}}},
            "scenes": scenes,
        }
        write_json(folder / "report.json", report)


def noise(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def scene_layers(number: int, value: float) -> Layers:
    """Context and truth that are the same in all runs, samples that follow a number."""
    layers = [Layer("context", noise(number, 1)), Layer("true", noise(number, 2))]
    layers += [Layer("sample", noise(number + round(1000 * value) + sample, 2), sample) for sample in (1, 2)]
    return Layers(["context", "target"], layers)


def write_prediction(folder: Path, keys: list[str], samples: int = 2) -> None:
    for number, key in enumerate(keys):
        for sample in range(samples):
            place = folder / key / f"sample_{sample:02}"
            write_png(place / "context_00.png", noise(number, 1)[0])
            write_png(place / "observation_00.png", noise(100 + 10 * number + sample, 1)[0])
            made = {
                "key": key,
                "sample": sample,
                "version": 2,
                "made_with": {**SETTINGS, "writer": "TensorWriter"},
            }
            write_json(place / "sample.json", {**made, "request": {"context.observation": "1x3: 1 2 3"}})


def write_fit(folder: Path, values: list[float], max_steps: int) -> None:
    """A training's folder, which has logged a loss every ten steps."""
    folder.mkdir(parents=True)
    config = {"seed_everything": 3, "trainer": {"max_steps": max_steps, "log_every_n_steps": 10}}
    (folder / "config.yaml").write_text(json.dumps({**config, "model": {"class_path": "a.b.Model"}}))
    with SummaryWriter(str(folder)) as log:
        for number, value in enumerate(values, 1):
            log.add_scalar("train/loss", value, 10 * number - 1, walltime=1e9 + 3600 * number)
            log.add_scalar("val/loss", value / 2, 10 * number - 1, walltime=1e9 + 3600 * number)
