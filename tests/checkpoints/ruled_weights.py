"""Weights by a rule, for the small model in the original layout: the reference values were computed with them.

NumPy promises that the numbers of `RandomState` never change, so that no weights need to be stored.
"""

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def ruled_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return float32 weights by key and shape, each drawn from a generator that its key seeds."""
    return {key: _ruled(key, tuple(shape)) for key, shape in shapes.items()}


def _ruled(key: str, shape: tuple[int, ...]) -> Tensor:
    numbers = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape) * _deviation(key, shape)
    if key.endswith("lin_out_feats.bias"):
        numbers[3] += 0.6  # densities that are mostly above zero
    return torch.from_numpy(numbers.astype(np.float32))


def _deviation(key: str, shape: tuple[int, ...]) -> float:
    """Return a scale at which signals neither vanish nor explode."""
    if len(shape) == 1 or "embedding_table" in key:
        return 0.05
    inputs = math.prod(shape[1:])
    gain = {"lin_out_feats": 4.0, "adaLN_modulation": 1.0, "fc_1": 1.0}
    return next((value for part, value in gain.items() if part in key), math.sqrt(2)) / math.sqrt(3 * inputs)
