"""Read the training checkpoints of the original code as data, and refuse anything unexplained."""

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from dfm_lightning.checkpoints.inert_pickle import printable
from dfm_lightning.checkpoints.original_layout import Layout, Sizes, layout, recognise
from dfm_lightning.errors import UserError

Weights = Literal["ema", "raw"]

ENTRIES = ("step", "model", "opt", "ema", "scaler", "version")
AVERAGED, ONLINE = "ema_model.", "online_model."
AVERAGING_STATE = ("initted", "step")


class OriginalFile(NamedTuple):
    """One state from a checkpoint of theirs, its recognised sizes, and the entries that were not used."""

    state: dict[str, Tensor]
    sizes: Sizes
    unused: list[str]


class _Copy(NamedTuple):
    """One of the states in a file: its entry, and the prefix of its keys there."""

    entry: str
    prefix: str
    state: dict[str, Any]

    def place(self, key: str) -> str:
        """Return the place of a key, for messages."""
        return f"{self.entry}: {self.prefix}{printable(key)}"


def read_original_file(path: Path, weights: Weights) -> OriginalFile:
    """Read the averaged ("ema") or current ("raw") weights of a checkpoint of theirs.

    Every state in the file is checked: keys, shapes, and that all numbers are finite.

    Raises:
        UserError: the file is not such a checkpoint; the message names the fault.
    """
    try:
        content = load_data(path)
        _check_entries(content)
        copies = list(_copies(content))
        entry, prefix = ("ema", AVERAGED) if weights == "ema" else ("model", "")
        chosen = next((copy for copy in copies if (copy.entry, copy.prefix) == (entry, prefix)), None)
        if chosen is None:
            other = "raw" if weights == "ema" else "ema"
            there = f"; it may with --weights {other}" if copies else ""
            raise UserError(f"it holds no state {entry}: {prefix}*{there}")
        _check_tensors(chosen)
        sizes = recognise(chosen.state)
        # The wanted one comes first: the sizes are taken from it.
        for copy in sorted(copies, key=lambda copy: copy is not chosen):
            _check(copy, layout(sizes))
    except UserError as error:
        raise UserError(f"{path} cannot be converted: {error}") from error
    unused = [name for name in content if name != entry]
    unused += [f"{c.entry}: {c.prefix}*" for c in copies if c.entry == entry and c.prefix != prefix]
    return OriginalFile(chosen.state, sizes, unused)


def load_data(path: Path) -> Any:
    """Load the content of a torch file if it is data alone; tensors stay on disk if the format allows."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        code = re.search(r"(?:GLOBAL|global)\S*:? (?:GLOBAL )?([\w.]+\.[\w.]+)", str(error))
        if code is not None:
            raise UserError(f"it holds {printable(code[1])}, which is code and not data") from error
        raise UserError(f"it is damaged, or holds more than data ({printable(str(error))})") from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise UserError("it is damaged, or not a file of torch.save") from error


def _check_entries(content: Any) -> None:
    if not isinstance(content, dict):
        raise UserError(f"it holds a {type(content).__name__}, not the dict of a training checkpoint")
    for name in content:
        if name not in ENTRIES:
            raise UserError(f"it holds an unknown entry {printable(str(name))}, besides {', '.join(ENTRIES)}")


def _copies(content: dict[str, Any]) -> Iterator[_Copy]:
    if "model" in content:
        yield _Copy("model", "", _state(content, "model"))
    if "ema" not in content:
        return
    averaging = _state(content, "ema")
    for prefix in (AVERAGED, ONLINE):
        state = {key.removeprefix(prefix): value for key, value in averaging.items() if key.startswith(prefix)}
        if state:
            yield _Copy("ema", prefix, state)
    for key in averaging:
        if not key.startswith((AVERAGED, ONLINE)) and key not in AVERAGING_STATE:
            raise UserError(f"it holds an unknown tensor ema: {printable(key)}")


def _state(content: dict[str, Any], entry: str) -> dict[str, Any]:
    state = content[entry]
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise UserError(f"its entry {entry} is not a state of names and tensors")
    return dict(state)


def _check_tensors(copy: _Copy) -> None:
    for key, value in copy.state.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"{copy.place(key)} is not a tensor of real numbers ({kind})")


def _check(copy: _Copy, expected: Layout) -> None:
    _check_tensors(copy)
    shapes = {**expected.optional, **expected.required}
    for key, value in copy.state.items():
        if key not in shapes:
            raise UserError(f"it holds an unknown tensor {copy.place(key)}")
        if tuple(value.shape) != shapes[key]:
            raise UserError(f"{copy.place(key)} has shape {tuple(value.shape)}, expected {shapes[key]}")
    for key in expected.required:
        if key not in copy.state:
            raise UserError(f"it holds no {copy.place(key)}")
    for key, value in copy.state.items():
        if not value.isfinite().all():
            raise UserError(f"{copy.place(key)} holds numbers that are not finite")
