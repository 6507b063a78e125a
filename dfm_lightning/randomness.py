"""Random numbers that depend only on the user's seed and their purpose.

A sample must not change with the number of processes, the batch it is drawn in or earlier draws, so each draw has
a generator of its own, seeded by name.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_SEED: ContextVar[int | None] = ContextVar("seed", default=None)


def user_seed() -> int:
    """Return the user's seed: that of `with_seed`, or of `--seed_everything`; 0 without one.

    (Lightning keeps the latter in the environment.)
    """
    seed = _SEED.get()
    return int(os.environ.get("PL_GLOBAL_SEED", "0")) if seed is None else seed


@contextmanager
def with_seed(seed: int | None) -> Iterator[None]:
    """Use a seed as the user's within a block; None changes nothing."""
    token = _SEED.set(user_seed() if seed is None else seed)
    try:
        yield
    finally:
        _SEED.reset(token)


def generator_for(*names: str | int, seed: int | None = None) -> torch.Generator:
    """Make a CPU generator seeded by a hash of the given seed (by default the user's) and the given names."""
    text = "\x1f".join(str(part) for part in (user_seed() if seed is None else seed, *names))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def named_noise(names: list[tuple[str | int, ...]], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Draw standard normal noise [len(names), *shape] in float32, each row from the generator of its name."""
    # In float32 under any default: other precisions draw other numbers, half precision coarse ones.
    rows = [torch.randn(shape, generator=generator_for(*name), dtype=torch.float32) for name in names]
    return torch.stack(rows).to(device)


def seed_generators(seed: int) -> None:
    """Seed torch's global generators: the CPU's, and those of devices that this process uses.

    Unlike `torch.manual_seed`, it leaves an uninitialised CUDA alone. Each seed would be queued there with a stack
    trace, which takes longer than a step of a small model.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


@contextmanager
def seeded_generators(seed: int) -> Iterator[None]:
    """Seed torch's global generators within a block; restore those of the CPU and the current CUDA device after
    it.
    """
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        seed_generators(seed)
        yield
