"""Render in pieces that fit into memory."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that an allocation failed, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)


def in_chunks(
    function: Callable[..., Result], inputs: tuple[Tensor, ...], size: int, dim: int
) -> Iterator[Result]:
    """Apply a function to successive pieces of its inputs along a dimension, at most `size` long.

    If a piece does not fit into memory, it is halved, and so are all that follow; the error passes through once a
    piece is 1 long. Only use it without gradients: with them, earlier results stay in memory, and halving would
    soon fail too.
    """
    length = inputs[0].shape[dim]
    start = 0
    while start < length:
        piece = tuple(tensor.narrow(dim, start, min(size, length - start)) for tensor in inputs)
        try:
            result = function(*piece)
        except (RuntimeError, MemoryError) as error:
            if torch.is_grad_enabled() or size <= 1 or not is_out_of_memory(error):
                raise
            size = (min(size, length - start) + 1) // 2
            continue
        start += size
        yield result
