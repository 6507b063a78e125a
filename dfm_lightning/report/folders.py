"""Find the runs in the folders that the user names."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dfm_lightning.errors import UserError
from dfm_lightning.report.fit_folders import is_fit_folder, read_fit_folder
from dfm_lightning.report.predict_folders import is_predict_folder, read_predict_folder
from dfm_lightning.report.runs import Run
from dfm_lightning.report.test_folders import is_test_folder, read_test_folder


class Reader(NamedTuple):
    """The functions that recognise and read the folder of one kind of run."""

    recognises: Callable[[Path], bool]
    read: Callable[[Path, str], Run]


READERS = (
    Reader(is_test_folder, read_test_folder),
    Reader(is_predict_folder, read_predict_folder),
    Reader(is_fit_folder, read_fit_folder),
)


def read_runs(folders: list[Path]) -> list[Run]:
    """Read the runs in some folders, in order; a folder of runs stands for all runs in it.

    Raises:
        UserError: a folder holds no run, or a damaged file.
    """
    found: dict[Path, Reader] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"no run '{folder}': there is no such folder")
        within = _find(folder)
        if not within:
            raise UserError(
                f"{folder} holds no run: give a folder that dfm test or dfm predict has written, "
                "or one with TensorBoard's logs of dfm fit"
            )
        found |= {path: reader for path, reader in within.items() if path not in found}
    names = _names(list(found))
    return [reader.read(path, names[path]) for path, reader in found.items()]


def _find(folder: Path) -> dict[Path, Reader]:
    """Find the run in a folder, or the runs one and two folders below (as in `runs/NAME/version_0`)."""
    reader = _reader(folder)
    if reader is not None:
        return {folder: reader}
    for pattern in ("*", "*/*"):
        below = sorted((path for path in folder.glob(pattern) if path.is_dir()), key=_natural)
        readers = {path: _reader(path) for path in below}
        found = {path: each for path, each in readers.items() if each is not None}
        if found:
            return found
    return {}


def _reader(path: Path) -> Reader | None:
    return next((reader for reader in READERS if reader.recognises(path)), None)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a sort key that puts version_10 after version_9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _names(paths: list[Path]) -> dict[Path, str]:
    """Return the shortest names that distinguish folders: their paths from their common parent."""
    absolute = {path: Path(os.path.abspath(path)) for path in paths}
    common = os.path.commonpath([path.parent for path in absolute.values()])
    return {path: each.relative_to(common).as_posix() for path, each in absolute.items()}
