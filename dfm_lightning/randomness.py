"""Random numbers that depend on the user's seed and on what they are for, and on nothing else.

A sample must not change with the number of processes, the batch it is drawn in or what was drawn before, so
each draw has a generator of its own, seeded by name.
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
    """Tell the seed given by the user: that of `with_seed`, or `--seed_everything`'s; 0 without one.

    (Lightning keeps the latter in the environment.)
    """
    seed = _SEED.get()
    return int(os.environ.get("PL_GLOBAL_SEED", "0")) if seed is None else seed


@contextmanager
def with_seed(seed: int | None) -> Iterator[None]:
    """Let a seed be the user's for a block; None changes nothing."""
    token = _SEED.set(user_seed() if seed is None else seed)
    try:
        yield
    finally:
        _SEED.reset(token)


def generator_for(*names: str | int, seed: int | None = None) -> torch.Generator:
    """A CPU generator whose seed is a hash of the given seed (the user's, if none) and the given names."""
    text = "\x1f".join(str(part) for part in (user_seed() if seed is None else seed, *names))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def named_noise(names: list[tuple[str | int, ...]], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Standard normal noise [len(names), *shape] in float32, each row drawn from the generator of its name."""
    # In float32 whatever the default: other precisions draw other numbers, and half precision coarse ones.
    rows = [torch.randn(shape, generator=generator_for(*name), dtype=torch.float32) for name in names]
    return torch.stack(rows).to(device)


def seed_generators(seed: int) -> None:
    """Seed torch's global generators: the CPU's, and those of devices that this process uses.

    Unlike `torch.manual_seed`, it leaves CUDA alone where that is not initialised. There each seed would be
    queued with a stack trace, which takes longer than a step of a small model.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


@contextmanager
def seeded_generators(seed: int) -> Iterator[None]:
    """Seed torch's global generators for a block, and put back those of the CPU and the current CUDA device."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        seed_generators(seed)
        yield
