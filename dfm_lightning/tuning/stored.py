"""The stored results of a search: converged samples, and the errors of samplers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from dfm_lightning.callbacks.sketches import Sketch, alike
from dfm_lightning.errors import UserError
from dfm_lightning.files import file_name, whole_file, write_json
from dfm_lightning.record import changes_between
from dfm_lightning.tuning.candidates import Candidate


class Stored:
    """Computes each thing once: what is in the folder already is read from there.

    Args:
        folder: where to store them.
        settings: all that results depend on beside the data, as primitives by name.
        data: a sketch of each scene, by name.

    Raises:
        UserError: the folder holds results of other settings or data; the message names what differs.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], data: dict[str, Sketch]) -> None:
        self.folder = folder
        self.settings = json.loads(json.dumps(settings))
        self.data = data
        self.measured: dict[str, list[float]] = {}
        path = self._path
        if not path.exists():
            for leftover in self._samples.glob("*.safetensors"):  # of a search that is not here any more
                leftover.unlink()
            self._write()
            return
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            before, self.measured = content["settings"], content["measured"]
            sketched = dict(content["data"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} holds no search that can be read: choose another output folder") from error
        changes = changes_between(before, self.settings)
        if changes:
            raise UserError(f"{path} is of a search with other settings ({changes}): choose another output folder")
        for name, now in self.data.items():
            if not alike(sketched.get(name), now):
                raise UserError(
                    f"{path} is of a search with other data of scene '{name}': choose another output folder"
                )

    @property
    def _path(self) -> Path:
        return self.folder / "tuning.json"

    @property
    def _samples(self) -> Path:
        return self.folder / "converged"

    def errors(self, candidate: Candidate, held_out: bool, compute: Callable[[], list[float]]) -> list[float]:
        """Return the errors of a candidate on the scenes that are searched on, or on those held out."""
        key = json.dumps([*candidate, "held out" if held_out else "searched"])
        if key not in self.measured:
            self.measured[key] = compute()
            self._write()
        return self.measured[key]

    def _write(self) -> None:
        write_json(self._path, {"settings": self.settings, "data": self.data, "measured": self.measured})

    def sample(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """Return the converged sample of a scene."""
        path = self._samples / f"{file_name(name)}.safetensors"
        if not path.exists():
            found = compute()
            with whole_file(path) as aside:
                save_file({"sample": found.contiguous().cpu()}, aside)
            return found
        return load_file(path)["sample"]
