"""Report what a root of clips holds, and which of its files cannot be used."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from rich.progress import track

from datamodules.file_faults import FileFault
from datamodules.image_files import UnreadableError, open_picture, read_picture
from datamodules.vimeo90k.layout import Clip, ClipRoot, Split, find_roots
from datamodules.vimeo90k.truth import ClipTruths, DirectionLaw, open_truths
from dfm_lightning.errors import UserError
from dfm_lightning.wording import counted

_SPLITS: tuple[Split, ...] = ("train", "test")
# Number of frames that `inspect` opens to see their sizes; `verify` reads all.
_CLIPS_LOOKED_AT = 50


class ClipsReport(NamedTuple):
    """One folder of clips. `sizes` counts the sizes (width × height) of the clips that were opened."""

    root: ClipRoot
    clips: dict[str, str]
    sizes: Counter[str]
    law: DirectionLaw | None

    def __str__(self) -> str:
        form = self.root.form
        lines = [f"{self.root.folder}: {form.name}s, {form.frames} frames each"]
        lines += [f"  {split}: {what}" for split, what in self.clips.items()]
        lines += [f"  {count} of the clips looked at: {what}" for what, count in self.sizes.most_common()]
        if self.law is not None:
            each = zip(self.law.degrees, self.law.probabilities, strict=True)
            lines.append(f"  true motion known; directions {', '.join(f'{d:g}° ({p:.0%})' for d, p in each)}")
        return "\n".join(lines)


class RootReport(NamedTuple):
    """All folders of clips at a root; printed as one line for each item."""

    folders: list[ClipsReport]

    def __str__(self) -> str:
        return "\n".join(map(str, self.folders))


def inspect_root(root: Path) -> RootReport:
    """Report what clips a root holds, by its lists and some of the frames; `verify_root` reads every file."""
    return RootReport([_inspect(each) for each in find_roots(Path(root))])


def _inspect(root: ClipRoot) -> ClipsReport:
    listed: dict[str, str] = {}
    looked_at: list[Clip] = []
    for split in _SPLITS:
        try:
            clips = root.clips(split)
        except UserError as error:
            listed[split] = str(error)
            continue
        listed[split] = counted(len(clips), "clip")
        looked_at += clips[:: max(1, len(clips) // _CLIPS_LOOKED_AT)]
    truths = open_truths(root.folder)
    return ClipsReport(root, listed, Counter(map(_size, looked_at)), None if truths is None else truths.law)


def _size(clip: Clip) -> str:
    try:
        with open_picture(clip.frames[0], str(clip.frames[0])) as picture:
            return f"{picture.width}×{picture.height} pixels"
    except UnreadableError as error:
        return str(error)


def verify_root(root: Path) -> list[FileFault]:
    """Read every list, frame and true motion of a root of clips.

    Returns:
        The faults found; empty if there are none.
    """
    return [problem for each in find_roots(Path(root)) for problem in _verify(each)]


def _verify(root: ClipRoot) -> list[FileFault]:
    problems: list[FileFault] = []
    truths = open_truths(root.folder)
    for split in _SPLITS:
        try:
            clips = root.clips(split)
        except UserError as error:
            problems.append(FileFault(root.form.list_file(split), str(error)))
            continue
        for clip in track(clips, f"Reading the {split} clips of {root.folder.name}"):
            problems += _verify_clip(clip, truths)
    return problems


def _verify_clip(clip: Clip, truths: ClipTruths | None) -> list[FileFault]:
    problems, sizes = [], set()
    for path in clip.frames:
        try:
            sizes.add(read_picture(path, str(path)).size)
        except UnreadableError as error:
            problems.append(FileFault(clip.name, str(error)))
    if len(sizes) > 1:
        problems.append(FileFault(clip.name, "its frames are of different sizes"))
    if truths is not None:
        try:
            truths.read(clip.name)
        except UserError as error:
            problems.append(FileFault(clip.name, str(error)))
    return problems
