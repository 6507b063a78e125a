"""Check every file that a Co3D root names."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import track

from datamodules.co3d.annotations import find_categories, read_category, read_eval_batches, read_set_list
from datamodules.co3d.frames import read_depth, read_mask, read_view
from datamodules.co3d.sequences import Sequence, build_sequences
from datamodules.file_faults import FileFault
from datamodules.image_files import UnreadableError
from dfm_lightning.errors import UserError
from dfm_lightning.wording import counted

# Any size will do: files are decoded completely, whatever they are reduced to.
_SIZE = 16


def verify_root(root: Path) -> list[FileFault]:
    """Read every image, mask, depth map and camera that the annotations of a Co3D root name.

    Args:
        root: folder that holds the categories' folders.

    Returns:
        The faults found; empty if there are none.
    """
    root = Path(root)
    problems: list[FileFault] = []
    for name, subsets in find_categories(root).items():
        try:
            sequences = build_sequences(root, name, read_category(root, name))
        except UserError as error:
            problems.append(FileFault(name, str(error)))
            continue
        problems += _check_lists(root, name, subsets, sequences)
        for sequence in track(sequences.values(), f"Reading the files of {name}"):
            problems += _check_sequence(root, sequence)
    return problems


def _check_lists(root: Path, name: str, subsets: list[str], sequences: dict[str, Sequence]) -> list[FileFault]:
    known = {(s.name, frame.number) for s in sequences.values() for frame in s.frames}
    problems = []
    for subset in subsets:
        try:
            splits = read_set_list(root, name, subset)
        except UserError as error:
            problems.append(FileFault(f"{name}/{subset}", str(error)))
            continue
        try:
            batches = read_eval_batches(root, name, subset)
        except UserError as error:
            problems.append(FileFault(f"{name}/{subset}", str(error)))
            batches = []
        missing = [frame for ids in [*splits.values(), *batches] for frame in ids if frame not in known]
        if missing:
            sequence, number = missing[0]
            what = f"lists {counted(len(missing), 'frame')} without annotation, such as {number} of {sequence}"
            problems.append(FileFault(f"{name}/{subset}", what))
    return problems


def _check_sequence(root: Path, sequence: Sequence) -> list[FileFault]:
    problems = []
    for frame, intrinsics in zip(sequence.frames, sequence.intrinsics, strict=True):
        if frame.problem is not None:
            problems.append(FileFault(f"{sequence.name}, frame {frame.number}", frame.problem))
        # The image is checked even if its camera is unusable.
        checks: list[Callable[[], Any]] = [partial(read_view, frame._replace(problem=None), intrinsics, _SIZE)]
        if frame.mask_path is not None:
            checks.append(partial(read_mask, frame, _SIZE))
        if frame.depth is not None:
            checks.append(partial(read_depth, root, frame))
        for check in checks:
            try:
                check()
            except UnreadableError as error:
                problems.append(FileFault(sequence.name, str(error)))
    return problems
