"""Sequences ready to be read: filtered, scaled, reduced to the frames that a split may use."""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from datamodules.co3d.annotations import (
    CategoryAnnotations,
    FrameId,
    check_choice,
    read_category,
    read_eval_batches,
    read_set_list,
)
from datamodules.co3d.scales import SceneScale, load_scales
from datamodules.co3d.sequences import Sequence, build_sequences
from datamodules.posed.scenes import Split
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import scale_translations
from dfm_lightning.wording import counted


class ScaledSequence(NamedTuple):
    """A sequence with its scale; `batch` is its evaluation batch, if it has one.

    `frames` are the positions in the sequence that the split may use.
    """

    sequence: Sequence
    scale: SceneScale
    frames: list[int]
    batch: list[FrameId]

    def poses(self, target_scale: float) -> Float[Tensor, "v 4 4"]:
        """Return absolute camera-to-world poses in units in which the scene's scale is `target_scale`."""
        return scale_translations(self.sequence.camera_to_world, target_scale / self.scale.value)


class Skipped(NamedTuple):
    """A sequence or a frame (`number`) that is not used, and the reason."""

    sequence: str
    number: int | None
    reason: str


class Category(NamedTuple):
    """The parts of a category that are read once: annotations, set lists, evaluation batches."""

    root: Path
    name: str
    annotations: CategoryAnnotations
    splits: dict[str, list[FrameId]]
    batches: dict[str, list[FrameId]]
    subset: str


def open_category(root: Path, name: str, subset: str) -> Category:
    """Read a category's annotations and the lists of a subset."""
    check_choice(root, name, subset)
    batches: dict[str, list[FrameId]] = {}
    for batch in read_eval_batches(root, name, subset):
        if batch:
            # The first batch of each sequence: the files list the same target with more and more known frames.
            batches.setdefault(batch[0][0], batch)
    return Category(root, name, read_category(root, name), read_set_list(root, name, subset), batches, subset)


def best_sequences(names: list[str], quality: dict[str, float | None], count: int | None) -> list[str]:
    """Return the sequences with the best camera quality score, sorted by name; those without a score rank last."""

    def rank(name: str) -> tuple[bool, float, str]:
        score = quality.get(name)
        known = score is not None and bool(np.isfinite(score))
        return not known, -float(score) if known and score is not None else 0.0, name

    return sorted(sorted(set(names), key=rank)[:count])


def absent_sequences(category: Category, names: Collection[str]) -> set[str]:
    """List the sequences without any picture, which therefore have not been downloaded."""
    folders: dict[str, dict[Path, set[str]]] = {name: {} for name in names}
    for frame in category.annotations.frames:
        if frame.sequence in folders:
            path = category.root / frame.path
            folders[frame.sequence].setdefault(path.parent, set()).add(path.name.lower())
    return {
        name
        for name, listed in folders.items()
        if not any(files.intersection(_names_in(folder)) for folder, files in listed.items())
    }


def _names_in(folder: Path) -> list[str]:
    try:
        return [name.lower() for name in os.listdir(folder)]
    except OSError:
        return []


def select_sequences(
    category: Category, split: Split, count: int | None, skip_absent: bool = False
) -> tuple[list[tuple[Sequence, list[int]]], list[Skipped]]:
    """Select the best sequences of a split with the positions of its frames; list what cannot be used.

    Evaluation keeps frames whose cameras cannot be used, so that its choice does not depend on them.

    Args:
        category: what was read.
        split: which list of the subset.
        count: number of sequences, those with the best camera quality score; all if None.
        skip_absent: whether to drop sequences that have not been downloaded before counting.
    """
    listed: dict[str, set[int]] = {}
    for name, number in category.splits[split]:
        listed.setdefault(name, set()).add(number)
    absent = absent_sequences(category, listed) if skip_absent else set()
    names = best_sequences([name for name in listed if name not in absent], category.annotations.quality, count)
    sequences = build_sequences(category.root, category.name, category.annotations, names)
    selected: list[tuple[Sequence, list[int]]] = []
    skipped = [Skipped(name, None, "is listed, but none of its pictures is there") for name in sorted(absent)]
    for name in names:
        if name not in sequences:
            skipped.append(Skipped(name, None, "is listed, but has no annotations"))
            continue
        frames = []
        for position, frame in enumerate(sequences[name].frames):
            if frame.number not in listed[name]:
                continue
            if frame.problem is not None:
                skipped.append(Skipped(name, frame.number, frame.problem))
            if frame.problem is None or split != "train":
                frames.append(position)
        selected.append((sequences[name], frames))
    return selected, skipped


def open_scenes(
    category: Category,
    split: Split,
    count: int | None,
    least_frames: int,
    cache_dir: Path | None = None,
    skip_absent: bool = False,
) -> tuple[list[ScaledSequence], list[Skipped]]:
    """Open the scenes of a split with their scales; list what cannot be used.

    Args:
        category: what was read.
        split: which list of the subset.
        count: number of sequences, as in `select_sequences`.
        least_frames: sequences with fewer frames with usable cameras are skipped.
        cache_dir: where the scales are stored, if not in the root.
        skip_absent: as in `select_sequences`.
    """
    selected, skipped = select_sequences(category, split, count, skip_absent)
    checksum = category.annotations.checksum
    scales = load_scales(category.root, category.name, checksum, [sequence for sequence, _ in selected], cache_dir)
    scenes = []
    for sequence, frames in selected:
        usable = len(set(sequence.usable()).intersection(frames))
        if usable < least_frames:
            reason = f"fewer than {least_frames} usable frames"
            skipped.append(Skipped(sequence.name, None, reason))
        elif not scales[sequence.name].is_valid:
            reason = "neither depths nor cameras give a scale"
            skipped.append(Skipped(sequence.name, None, reason))
        else:
            batch = category.batches.get(sequence.name, [])
            scenes.append(ScaledSequence(sequence, scales[sequence.name], frames, batch))
    return scenes, skipped


def require_scenes(scenes: list[ScaledSequence], skipped: list[Skipped], category: Category, split: Split) -> None:
    """Refuse a split without scenes, and say what there is."""
    if scenes:
        return
    sizes = ", ".join(f"{name}: {counted(len(frames), 'frame')}" for name, frames in category.splits.items())
    why = f"; {describe_skipped(skipped)}" if skipped else ""
    raise UserError(
        f"{category.root}: subset {category.subset!r} of {category.name!r} has no {split} scene ({sizes}){why}"
    )


def describe_skipped(skipped: list[Skipped]) -> str:
    """Summarise in one line how many sequences and frames are skipped for which reason."""
    reasons = Counter(("frame" if each.number is not None else "sequence", each.reason) for each in skipped)
    return "; ".join(f"{counted(count, kind)} skipped: {reason}" for (kind, reason), count in reasons.items())
