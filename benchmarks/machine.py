"""Time and memory of work on this machine, and the most that it can do."""

import gc
import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from memory import resident
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

Name = TypeVar("Name", bound=Hashable)
PRODUCTS = 20


class Run(NamedTuple):
    """What work took: seconds (of the CPU, or of the clock on a GPU), operations if counted; and its result."""

    seconds: float
    flops: float
    result: Any

    def times(self, count: float) -> "Run":
        """This work so many times."""
        return Run(self.seconds * count, self.flops * count, self.result)


class Found(NamedTuple):
    """Runs of one piece of work: seconds by round, operations, the most GiB that were taken, the result."""

    seconds: list[float]
    flops: float
    peak: float
    result: Any


class Clock:
    """Times work, and counts its operations if asked to."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.gpu = device == "cuda"
        self.counting = False

    def run(self, work: Callable[[], Any]) -> Run:
        """Run something."""
        if self.gpu:
            torch.cuda.synchronize()
        now = time.perf_counter if self.gpu else time.process_time
        counter = FlopCounterMode(display=False) if self.counting else None
        start = now()
        with counter or nullcontext():
            result = work()
        if self.gpu:
            torch.cuda.synchronize()
        return Run(now() - start, counter.get_total_flops() if counter else 0, result)

    def in_turn(self, works: dict[Name, Callable[[], Run]], rounds: int) -> dict[Name, Found]:
        """Run everything once to warm up and count, then all in turn."""
        found = {}
        for name, work in works.items():
            self.counting = True
            self._forget_peak()
            first = work()
            self.counting = False
            found[name] = Found([], first.flops, self._peak(), first.result)
        for _ in range(rounds):
            for name, work in works.items():
                found[name].seconds.append(work().seconds)
        return found

    def _forget_peak(self) -> None:
        gc.collect()
        if self.gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak is counted from here

    def _peak(self) -> float:
        return (torch.cuda.max_memory_allocated() if self.gpu else resident("VmHWM")) / 2**30


def half(bf16: bool, device: str) -> AbstractContextManager[Any]:
    """Half precision, or none."""
    return torch.autocast(device, torch.bfloat16) if bf16 else nullcontext()


def products(left: Tensor, right: Tensor) -> None:
    """Multiply matrices, again and again."""
    for _ in range(PRODUCTS):
        left @ right


def ceilings(clock: Clock) -> dict[str, float]:
    """Operations a second of matrix products, by precision, and bytes a second of copies: the best of ten."""
    rows, width = (1 << 16, 512) if clock.gpu else (1024, 512)
    found = {}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = (torch.randn(size, width, device=clock.device).to(dtype) for size in (rows, width))
        best = min(clock.run(partial(products, left, right)).seconds for _ in range(10))
        found[name] = PRODUCTS * 2 * rows * width * width / best
    source = torch.randn(2**26, device=clock.device)
    target = torch.empty_like(source)
    best = min(clock.run(partial(target.copy_, source)).seconds for _ in range(10))
    return {**found, "bandwidth": 2 * source.numel() * source.element_size() / best}
