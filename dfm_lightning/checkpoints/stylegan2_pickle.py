"""What official StyleGAN2-ADA pickles hold, read as data: persistent objects, tensors, numbers, containers."""

import io
import math
import mmap
import pickletools
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dfm_lightning.checkpoints.inert_pickle import Constructors, Name, Stateful, plain, printable, read_pickle
from dfm_lightning.errors import UserError


class PersistentObject(NamedTuple):
    """A network as the file describes it: the name of its class, and its attributes."""

    class_name: str
    state: Mapping[str, Any]


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


def _number(number_type: NumberType, data: bytes) -> float:
    return float(np.frombuffer(data, dtype=number_type.dtype, count=1)[0])


def _persistent_object(meta: Mapping[str, Any]) -> PersistentObject:
    if meta["type"] != "class" or not isinstance(meta["state"], dict) or not isinstance(meta["class_name"], str):
        raise ValueError("a persistent object is a class with a state")
    return PersistentObject(meta["class_name"], meta["state"])


def _storage(data: bytes) -> Tensor:
    """All numbers of a tensor's storage: a second file inside the pickle, read with `weights_only`."""
    stream = io.BytesIO(data)
    # Only the format that pickled storages have: torch's readers of others are not needed (and that of tar
    # archives was not safe even with `weights_only` before torch 2.6).
    if not data.startswith(_LEGACY_MAGIC) or tarfile.is_tarfile(stream):
        raise UserError("it holds a tensor in an unknown format")
    stream.seek(0)
    try:
        storage = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"it holds a tensor that is more than numbers: {_offender(data, error)}") from error
    if not isinstance(storage, torch.storage.TypedStorage):
        raise UserError(f"it holds a {type(storage).__name__} in place of a tensor's numbers")
    return torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)


def _offender(data: bytes, error: Exception) -> str:
    """What in a refused storage is not a storage's: the first such name, else the reason it was refused for."""
    stream = io.BytesIO(data)
    try:
        while stream.tell() < len(data):
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST") and argument not in _STORAGES:
                    return printable(str(argument).replace(" ", "."))
    except ValueError:
        pass
    return printable(str(error))


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    if math.prod(size) > storage.numel():
        raise ValueError("a tensor larger than its storage")
    return storage.as_strided(size, stride, offset)


def _parameter(tensor: Tensor, *_: Any) -> Tensor:
    return tensor


# The first bytes of a pickled storage: protocol 2 and a number by which torch knows its files.
_LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."

_STORAGES = {f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Bool")}


def _empty_dict() -> dict[str, Any]:
    return {}


def _set(items: list[Any] | None = None) -> set[Any]:
    return {plain(item) for item in items or ()}


_ALLOWED: Constructors = {
    Name("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
    Name("dnnlib.util", "EasyDict"): _empty_dict,
    Name("collections", "OrderedDict"): _empty_dict,
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Name("torch._utils", "_rebuild_parameter"): _parameter,
    Name("torch.storage", "_load_from_bytes"): _storage,
    Name("numpy", "dtype"): NumberType,
    Name("numpy._core.multiarray", "scalar"): _number,
    Name("numpy.core.multiarray", "scalar"): _number,
    Name("builtins", "set"): _set,
}


def read_networks(path: Path) -> Any:
    """The contents of an official pickle: a dict of `PersistentObject` and plain values.

    Raises:
        UserError: the file cannot be read, or holds something else; the message names what.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as contents:
            return read_pickle(contents, _ALLOWED)
    except (OSError, ValueError) as error:
        raise UserError(f"it cannot be read ({error})") from error
