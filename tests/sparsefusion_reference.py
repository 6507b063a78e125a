"""Reference values of SparseFusion's released code, and the rule that fills modules with known weights."""

import math
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

PATH = Path(__file__).parent / "data" / "sparsefusion.pt"
PRECISIONS = {"float64": (torch.float64, 1e-9), "float32": (torch.float32, 1e-4)}


@lru_cache(maxsize=1)
def reference() -> dict[str, Any]:
    return torch.load(PATH, weights_only=True)


def check(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Both have the same shape, and the largest difference is small beside the largest value."""
    assert found.shape == expected.shape
    error = float((found.detach().double() - expected.double()).abs().max())
    assert error <= tolerance * float(expected.double().abs().max()), error


def uniforms(name: str, count: int, seed: int) -> np.ndarray:
    """Numbers from −½ to ½ by murmur3's finaliser of index, name and seed."""
    mask = np.uint64(0xFFFFFFFF)
    hashed = np.arange(count, dtype=np.uint64) + np.uint64((zlib.crc32(name.encode()) + seed * 0x9E3779B9) % 2**32)
    hashed &= mask
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        hashed ^= hashed >> np.uint64(shift)
        hashed = (hashed * np.uint64(factor)) & mask
    hashed ^= hashed >> np.uint64(16)
    return hashed.astype(np.float64) / 2**32 - 0.5


def by_recipe(key: str, shape: list[int], seed: int) -> Tensor:
    """The weights of a tensor of theirs, by its key."""
    count = math.prod(shape)
    u, last = uniforms(key, count, seed), key.split(".")[-1]
    if last in ("embeddings", "weights"):
        values = 2 * u
    elif last == "g":
        values = 1 + 0.4 * u
    elif last == "running_var":
        values = 1 + u
    elif len(shape) >= 2:
        values = 2 * u * math.sqrt(3 * shape[0] / count)
    elif last == "weight":
        values = 1 + 0.4 * u
    else:
        values = 0.4 * u
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def state_by_recipe(keys: dict[str, list[int]], seed: int) -> dict[str, Tensor]:
    """A whole state of theirs; the numbers of batches that have been seen are 0."""
    return {
        key: torch.tensor(0) if key.endswith("num_batches_tracked") else by_recipe(key, shape, seed)
        for key, shape in keys.items()
    }
