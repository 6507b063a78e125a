"""Time and peak memory of what inverse graphics spends its time on, for the model of a config.

    python benchmarks/inverse_graphics.py configs/co3d_demo.yaml
    python benchmarks/inverse_graphics.py configs/co3d.yaml --scenes 1 --repeats 1 --checkpointing

Weights and images are random: neither changes the amount of work. Each measurement runs in a process of its own,
so that its peak memory (of the whole process, libraries included) is its own.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from dfm_lightning.geometry.cameras import build_cameras, look_at
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Batch, Views, map_tensors

MEASUREMENTS = ("training iteration", "context and estimate", "denoising step", "video frame")


def build_model(config: Path, checkpointing: bool, **encoder: Any) -> InverseGraphics:
    """The model of a config, its encoder changed, without the perceptual loss, whose weights may not be there."""
    settings = yaml.safe_load(config.read_text())["model"]
    if encoder:
        settings["init_args"]["denoiser"]["init_args"]["encoder"]["init_args"].update(encoder)
    settings["init_args"].get("objective", {}).pop("perceptual", None)
    if checkpointing:
        for renderer in (settings["init_args"]["forward_model"], estimate_renderer(settings)):
            renderer["init_args"]["checkpointing"] = True
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(InverseGraphics, "model")
    return parser.instantiate_classes(parser.parse_object({"model": settings})).model


def estimate_renderer(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of the renderer of the deterministic estimate."""
    return settings["init_args"]["denoiser"]["init_args"]["estimate_renderer"]


def random_batch(scenes: int, size: int, near: float, far: float, contexts: int = 1) -> Batch:
    """Noise seen by cameras on a circle around a point between near and far."""
    count = contexts + 2
    angles = torch.cat([torch.arange(contexts) * -0.8, torch.tensor([0.8, 0.4])])
    radius = (near * far) ** 0.5
    position = radius * torch.stack([angles.sin(), -0.3 * torch.ones(count), -angles.cos()], dim=1)
    poses = look_at(position, torch.zeros(3), torch.tensor([0.0, -1.0, 0.0]))
    intrinsics = torch.tensor([[1.2, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]]).expand(count, 3, 3)
    cameras = build_cameras(poses, intrinsics, poses[0], size, size)
    images = torch.rand(count, 3, size, size) * 2 - 1
    views = map_tensors(lambda t: t.expand(scenes, *t.shape), Views(images, cameras))
    context, target, novel = (
        map_tensors(lambda t, part=part: t[:, part], views)
        for part in (slice(contexts), slice(contexts, contexts + 1), slice(contexts + 1, None))
    )
    return Batch(context, target, novel, [str(scene) for scene in range(scenes)], {})


def work_of(what: str, model: InverseGraphics, batch: Batch) -> Callable[[], Any]:
    """What is timed; what comes before it in a real run has been done when this returns."""
    if what == "training iteration":
        optimizer = torch.optim.Adam(model.parameters())

        def iteration() -> None:
            optimizer.zero_grad()
            terms = model.losses(batch)
            torch.stack([term.value * term.weight for term in terms.values()]).sum().backward()
            optimizer.step()

        return iteration
    model.eval()
    denoiser, level = model.denoiser, torch.full((len(batch.key),), 500, device=batch.target.observation.device)
    if what == "context and estimate":
        return lambda: denoiser.condition(batch.context, batch.target.params)
    with torch.no_grad():
        conditioning = denoiser.condition(batch.context, batch.target.params)
        field = denoiser(batch.target.observation, level, conditioning)
    if what == "video frame":
        return lambda: model.forward_model(field, batch.novel.params)

    def step() -> torch.Tensor:
        signal = denoiser(batch.target.observation, level, conditioning)
        return model.forward_model(signal, batch.target.params)

    return step


def measure(what: str, arguments: argparse.Namespace, results: Any) -> None:
    """Put median seconds, median CPU seconds, and the peak gigabytes of the process into the queue."""
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    model = build_model(arguments.config, arguments.checkpointing)
    model.warm_start_steps = 0
    data = yaml.safe_load(arguments.config.read_text())["data"]["init_args"]
    renderer = model.forward_model
    scenes = arguments.scenes if what == "training iteration" else 1
    work = work_of(what, model, random_batch(scenes, data["image_size"], renderer.near, renderer.far))
    runs = []
    with torch.set_grad_enabled(what == "training iteration"):
        for _ in range(arguments.repeats + (arguments.repeats > 1)):
            start, cpu_start = time.perf_counter(), time.process_time()
            work()
            runs.append((time.perf_counter() - start, time.process_time() - cpu_start))
    seconds, cpu_seconds = (statistics.median(times) for times in zip(*runs[arguments.repeats > 1 :], strict=True))
    results.put((seconds, cpu_seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="YAML file with the model")
    parser.add_argument("--scenes", type=int, default=4, help="scenes in the training batch")
    parser.add_argument("--checkpointing", action="store_true", help="compute values again in the backward pass")
    parser.add_argument("--repeats", type=int, default=5, help="counted runs; from 2 on, one more comes first")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="*", default=MEASUREMENTS, choices=MEASUREMENTS, metavar="MEASUREMENT")
    arguments = parser.parse_args()
    title = f"{arguments.config}, {arguments.threads} threads"
    table = Table("", "seconds", "CPU seconds", "peak memory of the process [GB]", title=title)
    spawn = multiprocessing.get_context("spawn")
    for what in arguments.only:
        results = spawn.SimpleQueue()
        process = spawn.Process(target=measure, args=(what, arguments, results))
        process.start()
        process.join()
        if process.exitcode:
            table.add_row(what, "failed", "", "")
            continue
        table.add_row(what, *(f"{value:.3g}" for value in results.get()))
    Console().print(table)


if __name__ == "__main__":
    main()
