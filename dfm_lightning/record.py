"""The constructor arguments of an object, recorded as primitives."""

import functools
import hashlib
import inspect
import math
import os
import types
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dfm_lightning.types import named_tensors

# The key of an object's class among its arguments: no argument can have this name.
CLASS = ""
_GIVEN = "_given"
_BLOCK = 2**20
# More would make the line too long to read.
_MOST_CHANGES = 6
# An attribute with an argument's name may be something else; one of the same kind is taken for the argument.
_KINDS: dict[str, tuple[type, ...]] = {
    "nothing": (type(None),),
    "truth": (bool,),
    "number": (int, float),
    "text": (str, Path),
    "tensor": (Tensor, np.ndarray, np.generic),
    "list": (list, tuple, set, frozenset),
    "dictionary": (dict,),
    "function": (types.FunctionType, types.BuiltinFunctionType, types.MethodType),
}
_UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_PRIMITIVE = (bool, int, float, str, type(None))


class Recorded:
    """A mixin that records constructor arguments, so that results can state their settings.

    Every argument is recorded, of every class up to this one, whether the object stores it or not. All of them
    count as affecting results, except those that a class lists in `without_effect`; a subclass lists only its own.
    If the object now holds another value under an argument's name, that one counts.
    """

    # Arguments that change no result: those of training, memory, speed.
    without_effect: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        constructor = vars(cls).get("__init__")
        if constructor is not None:
            setattr(cls, "__init__", _keeping(constructor))  # noqa: B010

    def identities(self) -> dict[str, Any]:
        """Return, by argument, the values that stand for arguments that are only names; here none.

        (An argument that names a file stands for the file's content anyway.)
        """
        return {}

    def record(self) -> dict[str, Any]:
        """Return the class and all arguments that have an effect, those of its parts in nested dictionaries."""
        left_out = frozenset().union(*(vars(c).get("without_effect", ()) for c in type(self).__mro__))
        identities = self.identities()
        given, _ = vars(self).get(_GIVEN, ({}, False))
        names = dict.fromkeys([*given, *_arguments_of(type(self))])
        values = {
            name: identities[name] if name in identities else self._now(name, given)
            for name in names
            if name not in left_out
        }
        return {CLASS: name_of(type(self)), **{name: v for name, v in values.items() if v is not _UNKNOWN}}

    def _now(self, name: str, given: dict[str, "_Kept"]) -> Any:
        """Return an argument's value: the attribute of its name, if of the kind given; else the value given."""
        state = vars(self)
        places = (state, *(state.get(part, {}) for part in ("_modules", "_buffers", "_parameters")))
        held = next((_kept(place[name]) for place in places if name in place), None)
        before = given.get(name)
        if held is None:
            return _UNKNOWN if before is None else _with_contents(before.described)
        counts = before is None or before.kind in (held.kind, "nothing")
        return _with_contents((held if counts or before is None else before).described)


class _Kept(NamedTuple):
    """A given value as primitives, and its kind."""

    kind: str
    described: Any


class _Unknown:
    """The absence of a value, where `None` is a value."""


_UNKNOWN = _Unknown()


def flat(tree: dict[str, Any]) -> dict[str, Any]:
    """Flatten a record into one dictionary: arguments of a part as "part.argument", the part's class as "part"."""
    return dict(_flattened(tree, ""))


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """List the changes between two flat records, as "name: before → now"."""
    names = [*now, *(name for name in before if name not in now)]
    values = [(name, before.get(name, "unset"), now.get(name, "unset")) for name in names]
    return [f"{name}: {old} → {new}" for name, old, new in values if old != new]


def changes_between(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return the first few changes between two flat records in one line; empty if there are none."""
    changes = differences(before, now)
    more = [f"and {len(changes) - _MOST_CHANGES} more"] if len(changes) > _MOST_CHANGES else []
    return ", ".join([*changes[:_MOST_CHANGES], *more])


def name_of(what: Any) -> str:
    """Name a class or function: alone if it belongs to this package, with its module otherwise."""
    module, name = getattr(what, "__module__", None), getattr(what, "__qualname__", type(what).__qualname__)
    return name if module is None or module.split(".")[0] == __name__.split(".")[0] else f"{module}.{name}"


def describe(value: Any, seen: tuple[int, ...] = ()) -> Any:
    """Describe a value as primitives that depend only on how it was made: objects by class and arguments."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    if isinstance(value, Enum):
        return f"{name_of(type(value))}.{value.name}"
    if isinstance(value, _PRIMITIVE):
        return value
    if isinstance(value, (Path, torch.dtype, torch.device)):
        return str(value)
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return contents_of(torch.as_tensor(value))
    if id(value) in seen:
        return name_of(type(value))
    seen = (*seen, id(value))
    if isinstance(value, Recorded):
        return value.record()
    if isinstance(value, dict):
        return {str(name): describe(item, seen) for name, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((describe(item, seen) for item in value), key=str)
    if isinstance(value, (list, tuple)):
        return [describe(item, seen) for item in value]
    if isinstance(value, functools.partial):
        return {CLASS: name_of(value.func), "args": describe(value.args, seen), **describe(value.keywords, seen)}
    if isinstance(value, type) or inspect.isroutine(value):
        return name_of(value)
    return {CLASS: name_of(type(value)), **_parts_of(value, seen)}


def contents_of(tree: Any) -> str:
    """Compute a short name for all tensors in a tree: their places, shapes and contents."""
    digest = hashlib.sha256()
    for name, tensor in named_tensors(tree, ""):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _keeping(constructor: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor so that it records its arguments.

    Those of a base class are recorded if they come from the caller, by `*others` or `**more`; otherwise they
    follow from those of the class itself.
    """
    signature = inspect.signature(constructor)
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    passes_on = any(kind in _UNNAMED for kind in kinds.values())

    @functools.wraps(constructor)
    def keeping(self: Any, *args: Any, **keywords: Any) -> None:
        outer, complete = vars(self).get(_GIVEN, ({}, False))
        try:
            bound = signature.bind(self, *args, **keywords)
        except TypeError:  # which the constructor itself is about to raise
            complete = True
        if complete:
            constructor(self, *args, **keywords)
            return
        bound.apply_defaults()
        own: dict[str, _Kept] = {}
        others: dict[str, list[Any]] = {}
        for name, value in list(bound.arguments.items())[1:]:
            if kinds[name] is inspect.Parameter.VAR_KEYWORD:
                own |= {keyword: _kept(item) for keyword, item in value.items()}
            elif kinds[name] is not inspect.Parameter.VAR_POSITIONAL:
                own[name] = _kept(value)
            elif value:
                others[name] = [describe(item) for item in value]
        vars(self)[_GIVEN] = ({**own, **outer}, not passes_on)
        constructor(self, *args, **keywords)
        given, complete = vars(self)[_GIVEN]
        # Arguments given to a base class by position have their names by now.
        known = [kept.described for name, kept in given.items() if name not in own]
        unnamed = {name: _kept(v) for name, v in others.items() if any(item not in known for item in v)}
        vars(self)[_GIVEN] = ({**given, **unnamed}, complete)

    return keeping


def _arguments_of(cls: type) -> list[str]:
    """Return the named arguments of a class's constructor."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):  # written in C
        return []
    return [parameter.name for parameter in parameters if parameter.kind not in _UNNAMED]


def _parts_of(value: Any, seen: tuple[int, ...]) -> dict[str, Any]:
    """Describe an object of a foreign class: by its arguments if it stores them, else by everything it stores.

    The weights of a network are left out; they are recorded as the model's.
    """
    held = dict(getattr(value, "__dict__", {}))
    if isinstance(value, nn.Module):
        held = {name: item for name, item in held.items() if not name.startswith("_") and name != "training"}
        held |= dict(value.named_children())
        passing = value._non_persistent_buffers_set
        held |= {name: buffer for name, buffer in value.named_buffers(recurse=False) if name in passing}
    arguments = _arguments_of(type(value))
    stored = {name: held.get(name, held.get(f"_{name}", _UNKNOWN)) for name in arguments}
    if isinstance(value, nn.Module) or not stored or _UNKNOWN in stored.values():
        stored = held
    return {name: describe(item, seen) for name, item in stored.items()}


def _kept(value: Any) -> _Kept:
    return _Kept(
        next((kind for kind, classes in _KINDS.items() if isinstance(value, classes)), "object"), describe(value)
    )


def _with_contents(value: Any) -> Any:
    """Replace file names in a description by the content of the files."""
    if isinstance(value, dict):
        return {name: _with_contents(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_contents(item) for item in value]
    if isinstance(value, str) and os.path.splitext(value)[1] and os.path.isfile(value):
        digest = hashlib.sha256()
        with open(value, "rb") as file:
            for block in iter(lambda: file.read(_BLOCK), b""):
                digest.update(block)
        return f"file {digest.hexdigest()[:16]}"
    return value


def _flattened(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _flattened(item, f"{prefix}.{name}".strip("."))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            yield from _flattened(item, f"{prefix}.{number}".strip("."))
    else:
        yield prefix, value
