"""Vimeo-90K on disk: its two forms, their lists, and the clips that these name."""

import re
from pathlib import Path
from typing import Literal, NamedTuple

from dfm_lightning.errors import UserError

FormName = Literal["septuplet", "triplet"]
Split = Literal["train", "test"]

# A folder of clips and a clip in it, such as 00001/0266.
_NAME = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+")


class Form(NamedTuple):
    """One of the two forms: the number of frames of a clip, and the prefix of its list files."""

    name: FormName
    frames: int
    prefix: str

    def list_file(self, split: Split) -> str:
        """Return the name of the file that lists the clips of a split."""
        return f"{self.prefix}_{split}list.txt"


FORMS: dict[FormName, Form] = {
    "septuplet": Form("septuplet", 7, "sep"),
    "triplet": Form("triplet", 3, "tri"),
}


class Clip(NamedTuple):
    """Consecutive frames of one video."""

    name: str
    frames: list[Path]


class ClipRoot(NamedTuple):
    """A folder that holds `sequences/` and the lists of one form."""

    folder: Path
    form: Form

    def clips(self, split: Split) -> list[Clip]:
        """Return the clips that a list names, in order. Raises UserError if the list is missing or empty."""
        path = self.folder / self.form.list_file(split)
        try:
            lines = path.read_text(encoding="utf-8-sig").split()
        except FileNotFoundError:
            raise UserError(f"there is no list of {split} clips {path}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not a readable list of clips ({error})") from None
        wrong = next((line for line in lines if not _NAME.fullmatch(line)), None)
        if wrong is not None:
            raise UserError(f"{path}: expected lines such as 00001/0266, got {wrong[:40]!r}")
        if not lines:
            raise UserError(f"{path}: the list is empty")
        return [self.clip(name) for name in lines]

    def clip(self, name: str) -> Clip:
        """Return the clip with a name."""
        folder = self.folder / "sequences" / name
        return Clip(name, [folder / f"im{number + 1}.png" for number in range(self.form.frames)])


def find_roots(root: Path) -> list[ClipRoot]:
    """Find the folders of clips at `root`: itself, or those called vimeo_septuplet and vimeo_triplet in it.

    Raises:
        UserError: there is none.
    """
    if not root.is_dir():
        raise UserError(f"No data set '{root}': there is no such folder.")
    found = [
        ClipRoot(folder, form)
        for form in FORMS.values()
        for folder in (root, root / f"vimeo_{form.name}")
        if any((folder / form.list_file(split)).exists() for split in ("train", "test"))
    ]
    if not found:
        lists = " or ".join(form.list_file("train") for form in FORMS.values())
        raise UserError(f"{root} holds no clips in the layout of Vimeo-90K: expected {lists} beside sequences/")
    return found


def open_root(root: Path, form: FormName | None = None) -> ClipRoot:
    """Open the folder of clips of a given form at `root`; the first, septuplets before triplets, if None."""
    found = find_roots(root)
    chosen = next((each for each in found if form in (None, each.form.name)), None)
    if chosen is None:
        raise UserError(f"{root} holds no {form}s, but {' and '.join(each.form.name for each in found)}s")
    return chosen
