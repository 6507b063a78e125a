"""Read the numbers in pickles of NumPy and PyTorch as data: scalars, arrays and the storages of tensors.

Nothing is allocated for numbers that the file does not hold, whatever sizes it names.
"""

import io
import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dfm_lightning.checkpoints.inert_pickle import Constructors, Name, Stateful, Unconstructed, read_pickle
from dfm_lightning.errors import UserError

# --- NumPy -----------------------------------------------------------------------------------------------------


class NumberType(Stateful):
    """A numpy dtype of a single number."""

    def __init__(self, code: str, *_: Any) -> None:
        if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
            raise ValueError("not the type of a number")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        """Take the byte order, the second entry of the state."""
        if state[1] not in ("<", ">", "=", "|"):
            raise ValueError("a number's byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


def number(number_type: NumberType, data: bytes) -> float | int:
    """Build a numpy scalar."""
    return np.frombuffer(data, dtype=number_type.dtype, count=1)[0].item()


class NumberArray(Stateful):
    """A numpy array, filled by its state."""

    def __init__(self, *_: Any) -> None:
        self.array = np.empty(0)

    def set_state(self, state: Any) -> None:
        """Take version, shape, type of the numbers, whether the first index varies fastest, and the bytes."""
        _, shape, number_type, fortran, data = state
        self.array = filled_array(data, number_type, shape, "F" if fortran else "C").array


def filled_array(
    data: bytes | bytearray,
    number_type: NumberType,
    shape: Sequence[int],
    order: str,
    axes: Sequence[int] | None = None,
) -> NumberArray:
    """Build a numpy array from protocol 5's form; `axes` permutes its axes."""
    made = NumberArray()
    numbers = np.frombuffer(data, dtype=number_type.dtype)
    made.array = numbers.reshape(tuple(shape), order="F" if order == "F" else "C")
    if axes is not None:
        made.array = made.array.transpose(axes)
    return made


# numpy 2 renamed its modules.
NUMPY: Constructors = {
    Name("numpy", "dtype"): NumberType,
    Name("numpy", "ndarray"): None,
    **{Name(f"numpy.{core}.multiarray", "scalar"): number for core in ("core", "_core")},
    **{Name(f"numpy.{core}.multiarray", "_reconstruct"): NumberArray for core in ("core", "_core")},
    **{Name(f"numpy.{core}.numeric", "_frombuffer"): filled_array for core in ("core", "_core")},
}

# --- PyTorch ---------------------------------------------------------------------------------------------------

# The first bytes of torch.save's format before archives, which it still uses for a storage in a pickle: protocol 2
# and a number that identifies torch's files.
TORCH_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_STORAGE_TYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}
_STORAGES: Constructors = {Name("torch", f"{kind}Storage"): None for kind in _STORAGE_TYPES}


class _Declared(NamedTuple):
    """The file's description of a storage before its numbers."""

    dtype: torch.dtype
    key: str
    numbers: int


def _declared(identifier: Any) -> _Declared:
    what, kind, key, _, count, view = identifier
    if what != "storage" or not isinstance(kind, Unconstructed) or view is not None:
        raise ValueError("no storage")
    return _Declared(_STORAGE_TYPES[kind.name.name.removesuffix("Storage")], key, count)


def storage(data: bytes) -> Tensor:
    """Read all numbers of a tensor's storage: a second file inside the pickle.

    Raises:
        UserError: it is something else, or does not hold the numbers that it claims.
    """
    if not data.startswith(TORCH_MAGIC):
        raise UserError("it holds a tensor in an unknown format")
    stream = io.BytesIO(data)
    for _ in ("magic number", "version", "machine"):
        read_pickle(stream, {})
    declared = read_pickle(stream, _STORAGES, _declared)
    if not isinstance(declared, _Declared):
        raise UserError(f"it holds a {type(declared).__name__} in place of a tensor's numbers")
    keys = read_pickle(stream, {})
    count = struct.unpack("<q", stream.read(8))[0]
    size = declared.dtype.itemsize
    numbers = bytearray(stream.read())  # a copy: torch may write to it
    if keys != [declared.key] or count != declared.numbers or not 0 <= count * size <= len(numbers):
        raise UserError(f"it holds a tensor of {declared.numbers} numbers that is damaged")
    if count == 0:
        return torch.empty(0, dtype=declared.dtype)
    return torch.frombuffer(numbers, dtype=declared.dtype, count=count)


def tensor(numbers: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """Build a tensor as a view of a storage."""
    if math.prod(size) > numbers.numel():
        raise ValueError("a tensor larger than its storage")
    return numbers.as_strided(size, stride, offset)


def parameter(data: Tensor, *_: Any) -> Tensor:
    """Return the tensor of a parameter."""
    return data


TORCH: Constructors = {
    Name("torch._utils", "_rebuild_tensor_v2"): tensor,
    Name("torch._utils", "_rebuild_parameter"): parameter,
    Name("torch.storage", "_load_from_bytes"): storage,
}
