"""Time and memory of softmax splatting against a plain version of four `scatter_add` calls.

Both are timed in turn in the same process, so that the ratio holds on a busy machine too; the best of all
rounds counts. Memory is what one forward and backward pass adds to the process at its peak (on a GPU: to what
PyTorch has allocated), measured in a process of its own; on a CPU that needs Linux.

    python benchmarks/splatting.py [--device cuda] [--threads 1] [--rounds 15]
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from dfm_lightning.forward_models.splatting import splat_softmax

# batch, channels, height, width: single frames and training batches of Vimeo-90K, the demo, feature maps.
SHAPES = [(1, 3, 256, 448), (8, 3, 256, 256), (8, 3, 64, 64), (32, 3, 48, 48), (1, 32, 256, 448)]

Splat = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain_splat(image: Tensor, flow: Tensor, importance: Tensor) -> Tensor:
    """Softmax splatting as one would write it down: four corners, four `scatter_add`, autograd for the rest."""
    batch, channels, height, width = image.shape
    weight = importance.exp()
    values = torch.cat([image * weight, weight], dim=1)
    x = torch.arange(width, device=flow.device) + flow[:, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    left, top = x.floor(), y.floor()
    sums = values.new_zeros(batch, channels + 1, height * width)
    for column in (left, left + 1):
        for row in (top, top + 1):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            share = (1 - (x - column).abs()) * (1 - (y - row).abs()) * inside
            index = (row * width + column).long().clamp(0, height * width - 1)
            index = index.flatten(1)[:, None].expand(-1, channels + 1, -1)
            sums = sums.scatter_add(2, index, (values * share[:, None]).flatten(2))
    pixels, total = sums.view_as(values).split([channels, 1], dim=1)
    return pixels / torch.where(total == 0, 1.0, total)


def our_splat(image: Tensor, flow: Tensor, importance: Tensor) -> Tensor:
    """The project's operator."""
    return splat_softmax(image, flow, importance).image


def inputs(shape: tuple[int, int, int, int], device: str) -> list[Tensor]:
    """A random image, a smooth flow of some ten pixels, and a random importance."""
    torch.manual_seed(0)
    batch, _, height, width = shape
    flow = F.interpolate(10 * torch.randn(batch, 2, 8, 8), (height, width), mode="bilinear")
    tensors = (torch.rand(shape), flow, torch.randn(batch, 1, height, width))
    return [tensor.to(device).requires_grad_() for tensor in tensors]


def seconds(splat: Splat, tensors: list[Tensor], backward: bool) -> float:
    """Duration of one pass."""
    wait = torch.cuda.synchronize if tensors[0].is_cuda else lambda: None
    wait()
    start = time.perf_counter()
    result = splat(*tensors)
    if backward:
        torch.autograd.grad(result, tensors, torch.ones_like(result))
    wait()
    return time.perf_counter() - start


def peak_mebibytes(splat: Splat, shape: tuple[int, int, int, int], device: str) -> float:
    """What a forward and backward pass needs beyond its inputs, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure_peak, (splat, shape, device))


def _measure_peak(splat: Splat, shape: tuple[int, int, int, int], device: str) -> float:
    torch.set_num_threads(1)
    seconds(splat, inputs((1, 1, 8, 8), device), backward=True)
    tensors = inputs(shape, device)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.max_memory_allocated()
        seconds(splat, tensors, backward=True)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak is counted from here
    before = _resident_kibibytes("VmRSS")
    seconds(splat, tensors, backward=True)
    return (_resident_kibibytes("VmHWM") - before) / 2**10


def _resident_kibibytes(name: str) -> int:
    """Memory of this process: VmRSS is what it has now, VmHWM the most it had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def main() -> None:
    """Print one row for each shape and pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| batch×channels×height×width | pass | plain | ours | ratio | plain memory | our memory |")
    print("|---|---|---|---|---|---|---|")
    for shape in SHAPES:
        tensors = inputs(shape, args.device)
        memory = [f"{peak_mebibytes(splat, shape, args.device):.0f} MiB" for splat in (plain_splat, our_splat)]
        for backward in (False, True):
            times: list[list[float]] = [[], []]
            for _ in range(args.rounds):
                for splat, durations in zip((plain_splat, our_splat), times, strict=True):
                    durations.append(seconds(splat, tensors, backward))
            plain, ours = (1e3 * min(durations) for durations in times)
            name = "forward and backward" if backward else "forward"
            cells = ["×".join(map(str, shape)), name, f"{plain:.2f} ms", f"{ours:.2f} ms", f"{plain / ours:.2f}"]
            print("| " + " | ".join([*cells, *(memory if backward else ("", ""))]) + " |")


if __name__ == "__main__":
    main()
