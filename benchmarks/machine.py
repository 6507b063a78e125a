"""Time and memory of work on this machine, and the most that it can do."""

import gc
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from memory import resident
from torch import Tensor


class Clock:
    """Times work, and the memory it takes."""

    def __init__(self, device: str) -> None:
        self.gpu = device == "cuda"

    def seconds(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """Run something: its time, and what it returns."""
        if self.gpu:
            torch.cuda.synchronize()
        now = time.perf_counter if self.gpu else time.process_time
        start = now()
        result = work()
        if self.gpu:
            torch.cuda.synchronize()
        return now() - start, result

    def peak(self, work: Callable[[], Any]) -> tuple[float, float, Any]:
        """Run something: its time, the most memory in GiB that was taken meanwhile, and what it returns."""
        gc.collect()
        if self.gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")
        seconds, result = self.seconds(work)
        taken = torch.cuda.max_memory_allocated() if self.gpu else resident("VmHWM")
        return seconds, taken / 2**30, result


def half(bf16: bool, device: str) -> AbstractContextManager[Any]:
    """Half precision, or none."""
    return torch.autocast(device, torch.bfloat16) if bf16 else nullcontext()


PRODUCTS = 20


def products(left: Tensor, right: Tensor) -> None:
    """Multiply matrices, again and again."""
    for _ in range(PRODUCTS):
        left @ right


def ceilings(clock: Clock, device: str) -> dict[str, float]:
    """Operations a second of matrix products, by precision, and bytes a second of copies: the best of ten."""
    rows, width = (1 << 16, 512) if clock.gpu else (1024, 512)
    found = {}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = torch.randn(rows, width, device=device).to(dtype), torch.randn(width, width, device=device)
        right = right.to(dtype)
        best = min(clock.seconds(partial(products, left, right))[0] for _ in range(10))
        found[name] = PRODUCTS * 2 * rows * width * width / best
    source = torch.randn(2**26, device=device)
    target = torch.empty_like(source)
    best = min(clock.seconds(lambda: target.copy_(source))[0] for _ in range(10))
    return {**found, "bandwidth": 2 * source.numel() * source.element_size() / best}
