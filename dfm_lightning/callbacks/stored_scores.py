"""The scores of a test on disk, scene by scene, so that an interrupted test continues where it stopped."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfm_lightning.callbacks.made_with import VERSION, MadeWith, is_stale
from dfm_lightning.callbacks.report_tables import SceneScores, Scores
from dfm_lightning.callbacks.sketches import Sketch, alike
from dfm_lightning.errors import UserError
from dfm_lightning.files import file_name, whole_file, write_json

Arrays = dict[str, np.ndarray]


class StoredScores:
    """The scores in a report's folder, and the arrays that joint scores are computed from.

    Scores are reused only if the same samples were measured in the same way on the same data.

    Args:
        folder: where the report is written.
        made_with: the record of the samples.
        measured_with: what the scores depend on besides, as primitives by name.
    """

    def __init__(self, folder: Path, made_with: MadeWith, measured_with: dict[str, Any]) -> None:
        self.folder = folder / "scenes"
        self.made_with = made_with
        # As read back from a file: lists for tuples, say.
        self.measured_with = json.loads(json.dumps(measured_with))

    def are_current(self, overwrite: bool) -> bool:
        """Tell whether all scores on disk are reusable.

        Raises:
            UserError: some are of samples made with other settings, and `overwrite` is false.
        """
        found = [(path, read_scene(path)) for path in sorted(self.folder.glob("*.json"))]
        stale = [is_stale(path, stored, self.made_with, overwrite) for path, stored in found if stored]
        return not any(stale) and all(self._is_current(stored) for _, stored in found)

    def find(self, key: str, data: Sketch) -> dict[str, Scores] | None:
        """Return the scores of a scene, given the sketch of its data; None if it has to be measured."""
        stored = read_scene(self._file(key, "json"))
        if not self._is_current(stored) or not alike(stored["data"], data):
            return None
        return stored["scores"] if not stored["kept"] or self._file(key, "npz").exists() else None

    def write(self, key: str, data: Sketch, scores: dict[str, Scores], arrays: Arrays) -> None:
        """Write the scores of a scene, and its arrays if there are any. This marks the scene as measured."""
        if arrays:
            with whole_file(self._file(key, "npz")) as aside, aside.open("wb") as file:
                # (NumPy annotates the names as if one could be `allow_pickle`.)
                np.savez(file, **arrays)  # type: ignore[arg-type]
        content = {
            "key": key,
            "version": VERSION,
            "data": data,
            "made_with": self.made_with,
            "measured_with": self.measured_with,
            "kept": sorted(arrays),
            "scores": scores,
        }
        write_json(self._file(key, "json"), content)

    def arrays(self, keys: list[str]) -> Iterator[Arrays]:
        """Read the arrays of scenes, one after another; empty where none were written.

        Raises:
            UserError: a file is damaged.
        """
        for path in (self._file(key, "npz") for key in keys):
            if not path.exists():
                yield {}
                continue
            try:
                with np.load(path, allow_pickle=False) as arrays:
                    yield dict(arrays)
            except (OSError, ValueError, EOFError) as error:
                raise UserError(f"{path} cannot be read ({error}): remove it and test again") from error

    def _is_current(self, stored: dict[str, Any]) -> bool:
        """Tell whether a scene's stored scores were made and measured as they would be now."""
        now = {"version": VERSION, "made_with": self.made_with, "measured_with": self.measured_with}
        return all(stored.get(name) == value for name, value in now.items())

    def _file(self, key: str, ending: str) -> Path:
        return self.folder / f"{file_name(key)}.{ending}"


def read_scene(path: Path) -> dict[str, Any]:
    """Read a scene's stored scores; nothing if the file is missing or unreadable."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def gather(scores: SceneScores) -> list[SceneScores]:
    """Gather the scores of all processes on every process, once all have written theirs."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [scores]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, scores)
    return parts


def merge_scores(parts: list[SceneScores]) -> SceneScores:
    """Merge all scenes, sorted by name, each once, however many processes have measured it."""
    merged = {key: scores for part in parts for key, scores in part.items()}
    return dict(sorted(merged.items()))
