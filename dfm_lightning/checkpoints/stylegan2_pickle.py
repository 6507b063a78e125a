"""Read official StyleGAN2-ADA pickles as data: persistent objects, tensors, numbers, containers."""

import mmap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dfm_lightning.checkpoints.inert_pickle import (
    Constructors,
    Name,
    Unconstructed,
    UnknownNameError,
    plain,
    read_pickle,
)
from dfm_lightning.checkpoints.pickled_numbers import NUMPY, TORCH, TORCH_MAGIC
from dfm_lightning.errors import UserError


class PersistentObject(NamedTuple):
    """A network as described in the file: the name of its class, and its attributes."""

    class_name: str
    state: Mapping[str, Any]


def _persistent_object(meta: Mapping[str, Any]) -> PersistentObject:
    if meta["type"] != "class" or not isinstance(meta["state"], dict) or not isinstance(meta["class_name"], str):
        raise ValueError("a persistent object is a class with a state")
    return PersistentObject(meta["class_name"], meta["state"])


def _dict(items: Iterable[tuple[Any, Any]] = ()) -> dict[Any, Any]:
    return {plain(key): value for key, value in items}


def _set(items: list[Any] | None = None) -> set[Any]:
    return {plain(item) for item in items or ()}


def _bytes(text: str = "", encoding: str = "latin1") -> bytes:
    """Convert a text to bytes, as protocols 0 to 2, which have no bytes, do."""
    if encoding != "latin1":
        raise ValueError("bytes in another encoding")
    return text.encode("latin1")


def _reconstructed(made: Unconstructed, base: Unconstructed, content: dict[Any, Any]) -> dict[Any, Any]:
    """Build an object that is a dict by another name, as protocols 0 and 1 do."""
    if made.name not in _DICTS or base.name.name != "dict" or not isinstance(content, dict):
        raise ValueError("an object that is not a dict")
    return content


_DICTS = (Name("dnnlib.util", "EasyDict"), Name("collections", "OrderedDict"))
_ALLOWED: Constructors = {
    Name("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
    **dict.fromkeys(_DICTS, _dict),
    **NUMPY,
    **TORCH,
    # Protocols 0 to 2 have the names of Python 2.
    **{Name(module, "set"): _set for module in ("builtins", "__builtin__")},
    **{Name(module, "bytes"): _bytes for module in ("builtins", "__builtin__")},
    **{Name(module, "dict"): None for module in ("builtins", "__builtin__")},
    Name("_codecs", "encode"): _bytes,
    Name("copy_reg", "_reconstructor"): _reconstructed,
    Name("copyreg", "_reconstructor"): _reconstructed,
}

_TENSORFLOW = ("dnnlib.tflib", "tfutil")
_OFFICIAL = (
    "get the official pickle of the model (.pkl, as NVIDIA publishes them for stylegan2-ada-pytorch), or let the "
    "program that wrote it export one"
)


def read_networks(path: Path) -> Any:
    """Read the contents of an official pickle: a dict of `PersistentObject` and plain values.

    Raises:
        UserError: the file cannot be read, or holds something else; the message names what.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as contents:
            if contents[:4] == b"PK\x03\x04" or contents[: len(TORCH_MAGIC)] == TORCH_MAGIC:
                raise UserError(
                    f"it is a file of torch.save, as rosinality's stylegan2-pytorch writes them (.pt): {_OFFICIAL}"
                )
            return read_pickle(contents, _ALLOWED)
    except UnknownNameError as error:
        if error.name.module.startswith(_TENSORFLOW):
            raise UserError(
                f"{error}: it is of the TensorFlow code; legacy.py of NVIDIA's stylegan2-ada-pytorch makes a "
                "pickle that can be imported of it (python legacy.py --source=IN.pkl --dest=OUT.pkl)"
            ) from error
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"it cannot be read ({error})") from error
