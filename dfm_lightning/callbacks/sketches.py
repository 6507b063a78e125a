"""Sketches of data, which reveal that a result was made for other data.

They are not fingerprints: the last digits of computed data (the images of a generator, say) depend on the batch in
which they are computed. The sketches of such data differ as little; those of other data differ more.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor, view_as_real

from dfm_lightning.types import map_tensors, named_tensors

_NUMBERS = 16
_BLOCK = 2**16
# Relative tolerance of sketches.
_TOLERANCE = 1e-5

Sketch = dict[str, str]


def sketch(tree: Any) -> Sketch:
    """Compute the shape and a few random sums of each tensor in a tree, by its place.

    Each number of a tensor enters one sum, with a weight of its own, so that every change counts.
    """
    return {name.strip("."): _sketch(tensor) for name, tensor in named_tensors(tree, "")}


def sketches_by_key(keys: Any, tree: Any) -> dict[str, Sketch]:
    """Sketch each scene of a batch."""
    return {key: sketch(map_tensors(lambda t, i=index: t[i], tree)) for index, key in enumerate(keys)}


def alike(first: Any, second: Any) -> bool:
    """Tell whether two sketches are of the same data, up to the last digits of float32."""
    if not isinstance(first, dict) or not isinstance(second, dict) or set(first) != set(second):
        return False
    return all(_alike(first[name], second[name]) for name in first)


def _sketch(tensor: Tensor) -> str:
    values = view_as_real(tensor) if tensor.is_complex() else tensor
    flat = values.detach().cpu().double().flatten().numpy()
    blocks = -(-flat.size // _BLOCK)
    padded = np.zeros((blocks, _BLOCK))
    padded.reshape(-1)[: flat.size] = flat
    weighted = padded * _weights(1, _BLOCK) * _weights(2, blocks)[:, None]
    sums = weighted.reshape(-1, _NUMBERS).sum(axis=0)
    return f"{'x'.join(map(str, tensor.shape))}: {' '.join(f'{number:.9g}' for number in sums)}"


@lru_cache(maxsize=8)
def _weights(seed: int, count: int) -> np.ndarray:
    # The legacy generator: NumPy guarantees that its numbers never change.
    return np.random.RandomState(seed).standard_normal(count)


def _alike(first: str, second: str) -> bool:
    shapes, numbers = zip(*(text.split(":") for text in (first, second)), strict=True)
    if shapes[0] != shapes[1]:
        return False
    before, now = (np.array(text.split(), dtype=np.float64) for text in numbers)
    size = max(np.sqrt(np.mean(before**2)), np.sqrt(np.mean(now**2)))
    return bool(np.allclose(before, now, rtol=0, atol=_TOLERANCE * size, equal_nan=True))
