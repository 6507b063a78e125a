"""Random numbers that depend on the user's seed and on what they are for, and on nothing else.

A sample must not change with the number of processes, the batch it is drawn in or what was drawn before, so
each draw has a generator of its own, seeded by name.
"""

import hashlib
import os

import torch
from torch import Tensor


def user_seed() -> int:
    """The seed given by the user (`--seed_everything`, kept by Lightning in the environment); 0 without one."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def generator_for(*names: str | int, seed: int | None = None) -> torch.Generator:
    """A CPU generator whose seed is a hash of the given seed (the user's, if none) and the given names."""
    text = "\x1f".join(str(part) for part in (user_seed() if seed is None else seed, *names))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def named_noise(names: list[tuple[str | int, ...]], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Standard normal noise [len(names), *shape], each row drawn from the generator of its name."""
    rows = [torch.randn(shape, generator=generator_for(*name)) for name in names]
    return torch.stack(rows).to(device)
