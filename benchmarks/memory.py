"""The memory that a training iteration takes, counted without any arithmetic, or measured.

    python benchmarks/memory.py                                # the overlays of configs/hardware, as a table
    python benchmarks/memory.py co3d co3d+hardware/gpu24/co3d  # configs by name, with their overlays
    python benchmarks/memory.py --measure                      # a small model on the CPU, counted and measured

Counted is what tensors hold at the same time, at the most: weights, their average, the moments of Adam, gradients
(of accumulated batches too), and what the iteration keeps and passes on. PyTorch's fake tensors have shapes and no
numbers, so that the paper's model is counted in a minute on a laptop. Not counted: what kernels need inside, what
the allocator cannot fill (fragmentation), and the GPU's own share (about half a gigabyte). The batch has all the
context views that the data gives.

`--measure` runs the same iteration in earnest and compares with the growth of the process' resident memory.
"""

import argparse
import multiprocessing
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import lpips
import torch
import yaml
from jsonargparse import ArgumentParser
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from dfm_lightning.cli.configs import find_config, shipped_configs
from dfm_lightning.diffusion import CosineProcess
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.geometry.cameras import build_cameras, look_at
from dfm_lightning.networks.frozen import Frozen
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Batch, Views, map_tensors

GIB = 2**30
# What a renderer takes for its chunks on a GPU if nobody says.
GPU_BUDGET_MB = 4096
# The model that is measured: the paper's in everything but size.
SMALL: dict[str, Any] = {
    "model": {
        "init_args": {
            "denoiser": {
                "init_args": {
                    "encoder": {"init_args": {"width": 384, "depth": 6, "heads": 6, "feature_channels": 64}},
                    "estimate_renderer": {"init_args": {"coarse_samples": 32}},
                    "mlp_width": 128,
                }
            },
            "forward_model": {"init_args": {"coarse_samples": 32, "fine_samples": 32, "patch_size": 16}},
        }
    },
    "data": {"init_args": {"image_size": 32, "batch_size": 1}},
}


class LiveMemory(TorchDispatchMode):
    """Count the bytes of all tensors made while it is open that still exist: `now`, the most so far `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and count what it has made."""
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._add, result)
        return result

    def _add(self, tensor: Tensor) -> None:
        # Views share a storage, which lives as long as one of them.
        storage = tensor.untyped_storage()
        name, size = storage._cdata, storage.nbytes()
        if name in self._known:
            return
        self._known.add(name)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, name, size)

    def _remove(self, name: int, size: int) -> None:
        self._known.discard(name)
        self.now -= size


class Taken(NamedTuple):
    """Bytes of what stays between iterations (weights, average, moments), and of all at the most."""

    states: int
    peak: int


def laid_over(base: Any, overlay: Any) -> Any:
    """Merge settings as the command line does with configs: groups key by key, anything else replaced."""
    if not (isinstance(base, dict) and isinstance(overlay, dict)):
        return overlay
    return {
        key: laid_over(base.get(key), overlay[key]) if key in overlay else base[key] for key in {**base, **overlay}
    }


def settings_of(names: str) -> dict[str, Any]:
    """Read configs by name, joined by +; later ones win."""
    settings: dict[str, Any] = {}
    for name in names.split("+"):
        settings = laid_over(settings, yaml.safe_load(find_config(name).read_text()))
    return settings


def build_model(settings: dict[str, Any]) -> InverseGraphics:
    """Make the model of a config; the weights of its perceptual loss are random."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(InverseGraphics, "model")
    model = parser.instantiate(parser.parse_object({"model": settings["model"]})).model
    model.warm_start_steps = 0
    return model


def random_batch(settings: dict[str, Any]) -> Batch:
    """Make a batch of the shapes that a config's data have, seen by cameras on a circle."""
    data = settings["data"]["init_args"]
    size, scenes = data["image_size"], data["batch_size"]
    contexts, novel = (data["views"]["init_args"][name] for name in ("contexts", "novel"))
    count = contexts + 1 + novel
    angle = torch.arange(count) * 0.3
    position = 4 * torch.stack([angle.sin(), torch.zeros(count), -angle.cos()], dim=1)
    poses = look_at(position, torch.zeros(3), torch.tensor([0.0, -1.0, 0.0]))
    intrinsics = torch.tensor([[1.2, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]]).expand(count, 3, 3)
    views = Views(torch.rand(count, 3, size, size) * 2 - 1, build_cameras(poses, intrinsics, poses[0], size, size))
    views = map_tensors(lambda t: t.expand(scenes, *t.shape), views)
    ends = ((0, contexts), (contexts, contexts + 1), (contexts + 1, count))
    context, target, novel = (map_tensors(lambda t, a=a, b=b: t[:, a:b], views) for a, b in ends)
    return Batch(context, target, novel, [str(scene) for scene in range(scenes)], {})


def precision_of(settings: dict[str, Any]) -> Any:
    """Open autocast as the trainer does under a config's precision."""
    precision = str(settings["trainer"].get("precision", "32-true"))
    if precision == "32-true":
        return nullcontext()
    return torch.autocast("cpu", {"bf16-mixed": torch.bfloat16}[precision], cache_enabled=False)


class RandomTrunk(Frozen):
    """The network of LPIPS with random weights, where it is: fake weights cannot be moved."""

    def to(self, device: torch.device) -> "RandomTrunk":
        """Return the network as it is."""
        return self


@contextmanager
def substitutes() -> Iterator[None]:
    """Do without files of weights and without looking at numbers, which fake tensors do not have."""

    def random_lpips(trunk: Any, weights: Any = None) -> Frozen:
        return RandomTrunk(lpips.LPIPS(net=trunk, pretrained=False, pnet_rand=True, verbose=False))

    process = CosineProcess()  # (made with NumPy, which has no fake arrays)
    with (
        patch("dfm_lightning.losses.perceptual.load_lpips", random_lpips),
        patch("dfm_lightning.sampling.diffusion_sampling.CosineProcess", lambda: process),
        patch("dfm_lightning.module.check_first_numbers"),
    ):
        yield


def adam_step(moments: list[Tensor], together: bool) -> None:
    """Hold what Adam's update holds at once: the roots of the second moments, of all parameters or of one."""
    second = moments[1::2]
    roots = [moment.sqrt() for moment in (second if together else [max(second, key=Tensor.numel)])]
    del roots


def iterate(settings: dict[str, Any]) -> list[Any]:
    """Run the last batch of an iteration, and the update; return what stays: model, average, moments."""
    model, batch = build_model(settings), random_batch(settings)
    if model.objective.perceptual is not None:
        model.objective.perceptual.prepare()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    averaged = any(
        "Averaging" in callback["class_path"] and callback.get("init_args", {}).get("device") != "cpu"
        for callback in settings["trainer"].get("callbacks", [])
    )
    average = [torch.clone(parameter.detach()) for parameter in parameters if averaged]
    moments = [torch.zeros_like(parameter) for parameter in parameters for _ in range(2)]
    if settings["trainer"].get("accumulate_grad_batches", 1) > 1:
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)  # (of the batches before)
    with precision_of(settings):
        terms = model.losses(batch)
        total = torch.stack([term.value * term.weight for term in terms.values()]).sum()
    total.backward()
    del terms, total
    adam_step(moments, together=getattr(model.optimizer, "foreach", None) is not False)
    model.zero_grad()
    return [model, average, moments]


def count(settings: dict[str, Any], on_gpu: bool = True) -> Taken:
    """Count what an iteration takes, on a GPU or as the CPU would."""
    budget = VolumeRendering.memory_budget

    def gpu_budget(renderer: VolumeRendering, like: Tensor) -> int:
        return budget(renderer, like) if renderer.memory_budget_mb else GPU_BUDGET_MB * 2**20

    with (
        substitutes(),
        patch.object(VolumeRendering, "memory_budget", gpu_budget if on_gpu else budget),
        FakeTensorMode(allow_non_fake_inputs=True),
        LiveMemory() as live,
    ):
        left = iterate(settings)
        taken = Taken(live.now, live.peak)
        del left
        return taken


def resident(what: str) -> int:
    """Read a line of this process' memory from Linux: VmRSS, resident now, or VmHWM, at the most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def measure(settings: dict[str, Any], results: Any) -> None:
    """Run the iteration in this process and put the growth of its resident memory into the queue."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    (torch.rand(64, 64, requires_grad=True) @ torch.rand(64, 64)).sum().backward()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    with substitutes():
        iterate(settings)
    results.put(resident("VmHWM") - before)


def compare() -> None:
    """Print counted beside measured for the small model, with and without checkpointing."""
    titles = ["checkpointing", "counted [MiB]", "measured [MiB]", "counted / measured"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    # Forked before anything is counted: what the parent has freed would be taken again and not be seen.
    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")
    for checkpointing in (False, True):
        settings = laid_over(settings_of("co3d"), SMALL)
        denoiser = settings["model"]["init_args"]["denoiser"]["init_args"]
        forward_model = settings["model"]["init_args"]["forward_model"]
        for part in (denoiser["encoder"], denoiser["estimate_renderer"], forward_model):
            part["init_args"]["checkpointing"] = checkpointing
        rows = []
        for work in (measure, lambda settings, results: results.put(count(settings, on_gpu=False).peak)):
            results = fork.SimpleQueue()
            process = fork.Process(target=work, args=(settings, results))
            process.start()
            process.join()
            rows.append(results.get())
        measured, counted = rows
        row = [checkpointing, f"{counted / 2**20:.0f}", f"{measured / 2**20:.0f}", f"{counted / measured:.2f}"]
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def overlays() -> list[str]:
    """Pair the overlays of configs/hardware with the configs that they are named after."""
    names = [name for name in shipped_configs() if name.startswith("hardware/")]
    return [f"{name.rsplit('/', 1)[1]}+{name}" for name in names]


def main() -> None:
    """Count or measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", help="names of configs, those laid over others joined to them by +")
    parser.add_argument("--measure", action="store_true", help="measure a small model too, beside its count")
    arguments = parser.parse_args()
    if arguments.measure:
        compare()
        return
    titles = ["config", "scenes", "accumulated", "precision", "stays [GiB]", "at the most [GiB]"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for names in arguments.configs or overlays():
        settings = settings_of(names)
        trainer = settings["trainer"]
        taken = count(settings)
        row = [names, settings["data"]["init_args"]["batch_size"], trainer.get("accumulate_grad_batches", 1)]
        row += [trainer.get("precision", "32-true"), f"{taken.states / GIB:.1f}", f"{taken.peak / GIB:.1f}"]
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
