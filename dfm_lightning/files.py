"""Files and folders that appear whole: written under a temporary name, then renamed."""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dfm_lightning.errors import UserError

PARTIAL = ".partial-"

# A number of bytes that fits on a disk with any room left.
_ENOUGH = 1 << 16


def _aside(path: Path) -> Path:
    # The original name stays at the end: writers choose the format by the extension.
    return path.with_name(f"{PARTIAL}{uuid.uuid4().hex[:8]}-{path.name}")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; rename it to `path` if the block succeeds, and remove it otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        with _refusals_named(path, aside):
            yield aside
            os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to write into; rename it to `path` if the block succeeds, and remove it otherwise.

    A folder already at `path` is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        with _refusals_named(path, aside):
            aside.mkdir()
            yield aside
            if path.exists():
                shutil.rmtree(path)
            aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _refusals_named(path: Path, aside: Path) -> Iterator[None]:
    """Turn a disk's refusal to write `aside` into an `OSError` that names `path`.

    Some libraries only report how many bytes they could not write.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason: OSError | None
        if isinstance(error, OSError) and error.errno is not None:
            named = error.filename
            reason = error if named is None or str(named).startswith(str(aside)) else None
        else:
            reason = _refusal(aside)
        if reason is None:
            raise
        raise OSError(reason.errno, reason.strerror, str(path)) from error


def _refusal(path: Path) -> OSError | None:
    """Return the error, if any, that writing more to a file, or to a new one in a folder, would raise now."""
    try:
        with (path / PARTIAL if path.is_dir() else path).open("ab") as file:
            file.write(bytes(_ENOUGH))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def remove_leftovers(root: Path) -> None:
    """Remove half-written files of killed processes under `root`. Only use it while nobody else writes there."""
    for leftover in list(root.rglob(f"{PARTIAL}*")):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file in UTF-8."""
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write a whole JSON file, indented for people. Infinity and NaN, which JSON lacks, are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def file_name(key: str) -> str:
    """Make a name for a file or folder from a scene's key: readable, safe, different for each key."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", key).lstrip(".")
    if safe == key and len(safe) <= 120:
        return safe
    return f"{safe[:100]}-{hashlib.sha256(key.encode()).hexdigest()[:6]}"
