"""Files and folders that appear whole: written aside under a temporary name, then renamed."""

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

PARTIAL = ".partial-"


def _aside(path: Path) -> Path:
    # The original name stays at the end: writers choose the format by the extension.
    return path.with_name(f"{PARTIAL}{uuid.uuid4().hex[:8]}-{path.name}")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, renamed to `path` if the block ends well and removed if it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder to write into, renamed to `path` if the block ends well and removed if it does not.

    A folder already at `path` is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    aside.mkdir()
    try:
        yield aside
        if path.exists():
            shutil.rmtree(path)
        aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(root: Path) -> None:
    """Remove what killed processes left half-written under `root`. Only while nobody else writes there."""
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
    """A name for a file or folder that belongs to a scene's key: readable, safe, different for each key."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", key).lstrip(".")
    if safe == key and len(safe) <= 120:
        return safe
    return f"{safe[:100]}-{hashlib.sha256(key.encode()).hexdigest()[:6]}"
