"""Report what a root of RealEstate10k, or a capture, holds, and whether all of it can be read."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from rich.progress import track

from datamodules.captures import is_capture
from datamodules.file_faults import FileFault
from datamodules.image_files import UnreadableError
from datamodules.posed.scenes import Scene, SceneReader, Split
from datamodules.realestate10k.forms import SPLITS, AbsentSplitError, open_reader
from dfm_lightning.errors import UserError
from dfm_lightning.wording import counted

# Any scale will do to check that a capture can be read.
_DEPTH = 1.0


class SplitReport(NamedTuple):
    """One split: its form, and the number of scenes by number of usable frames."""

    split: Split
    form: str
    lengths: Counter[int]
    unreadable: int

    def __str__(self) -> str:
        frames = sum(length * count for length, count in self.lengths.items())
        shortest, longest = min(self.lengths, default=0), max(self.lengths, default=0)
        return (
            f"{self.split}: {self.form}; {counted(frames, 'frame')} with camera and picture, "
            f"{shortest} to {longest} each; unreadable: {counted(self.unreadable, 'scene')}"
        )


class RootReport(NamedTuple):
    """All splits of a root, and why some cannot be opened; printed as one line for each."""

    root: Path
    splits: list[SplitReport]
    unopened: dict[Split, str]

    def __str__(self) -> str:
        unopened = (f"{split}: {why}" for split, why in self.unopened.items())
        return "\n".join([f"{self.root}", *map(str, self.splits), *unopened])


def inspect_root(root: Path) -> RootReport:
    """Report what a root of RealEstate10k, or a capture, holds; `verify_root` reads every picture.

    Args:
        root: folder with RealEstate10k in any of its forms, or a capture.
    """
    opened = open_splits(Path(root))
    return RootReport(root, [_inspect(split, reader) for split, reader in opened.readers.items()], opened.broken)


class OpenedSplits(NamedTuple):
    """The readers of a root's splits, and why others cannot be opened."""

    readers: dict[Split, SceneReader]
    broken: dict[Split, str]


def open_splits(root: Path) -> OpenedSplits:
    """Open the splits of a root. Raises UserError if none can be opened."""
    opened = OpenedSplits({}, {})
    absent = None
    splits: tuple[Split, ...] = ("test",) if is_capture(root) else SPLITS
    for split in splits:
        try:
            opened.readers[split] = open_reader(root, split, _DEPTH)
        except AbsentSplitError as error:
            absent = error
        except UserError as error:
            opened.broken[split] = str(error)
    if opened.readers:
        return opened
    raise UserError("; ".join(opened.broken.values()) or str(absent))


def _inspect(split: Split, reader: SceneReader) -> SplitReport:
    lengths: Counter[int] = Counter()
    unreadable = 0
    for key in track(reader.keys(), f"Opening the scenes of {split}", transient=True):
        try:
            lengths[len(reader.scene(key).usable_positions())] += 1
        except UnreadableError:
            unreadable += 1
    return SplitReport(split, reader.description, lengths, unreadable)


def verify_root(root: Path) -> list[FileFault]:
    """Read every camera and every picture of a root of RealEstate10k, or of a capture.

    Args:
        root: folder with RealEstate10k in any of its forms, or a capture.

    Returns:
        The faults found, scene by scene; empty if there are none.
    """
    opened = open_splits(Path(root))
    problems = [FileFault(split, why) for split, why in opened.broken.items()]
    for split, reader in opened.readers.items():
        for key in track(reader.keys(), f"Reading the scenes of {split}", transient=True):
            try:
                found = _check(reader.scene(key))
            except UnreadableError as error:
                found = [str(error)]
            problems += [FileFault(f"{split}/{key}", what) for what in found]
    return problems


def _check(scene: Scene) -> list[str]:
    """List the faults of a scene: of its listing, then its cameras, then its pictures."""
    cameras = scene.has_camera().tolist()
    useless = [position for position, valid in enumerate(cameras) if not valid]
    found = list(scene.left_out)
    if useless:
        found.append(f"{len(useless)} of {len(cameras)} cameras are useless, such as number {useless[0]}")
    bad = []
    for position in range(len(cameras)):
        try:
            scene.frame(position)
        except UnreadableError as error:
            bad.append(str(error))
    if bad:
        found.append(f"{len(bad)} of {len(cameras)} pictures are missing or damaged, such as {bad[0]}")
    return found
