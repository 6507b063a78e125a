"""Summarise a Co3D root in numbers: categories, subsets, sequences, frames, scales, and what is skipped."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from datamodules.co3d.annotations import find_categories, read_category, read_set_list
from datamodules.co3d.scales import SceneScale, load_scales
from datamodules.co3d.sequences import Sequence, build_sequences
from dfm_lightning.wording import counted


class SequenceReport(NamedTuple):
    """One sequence: its frames, its scale, and the skipped frames (number, reason)."""

    name: str
    frames: int
    image_size: tuple[int, int]
    quality: float | None
    with_depth: int
    with_mask: int
    scale: SceneScale
    skipped: list[tuple[int, str]]

    def __str__(self) -> str:
        height, width = self.image_size
        quality = "none" if self.quality is None else f"{self.quality:.3f}"
        scale = f"{self.scale.value:.4g} from {self.scale.source}" if self.scale.is_valid else "none: not used"
        line = (
            f"    {self.name}: {counted(self.frames, 'frame')} of {width}×{height}, {self.with_depth} with depth, "
            f"{self.with_mask} with mask, camera quality {quality}, scale {scale}"
        )
        return "\n".join([line, *(f"      frame {number} is skipped: {why}" for number, why in self.skipped)])


class CategoryReport(NamedTuple):
    """One category. `subsets` holds the numbers of sequences and frames in each split of each subset."""

    name: str
    subsets: dict[str, dict[str, tuple[int, int]]]
    sequences: list[SequenceReport]

    def __str__(self) -> str:
        frames = sum(sequence.frames for sequence in self.sequences)
        skipped = Counter(why for sequence in self.sequences for _, why in sequence.skipped)
        lines = [f"{self.name}: {counted(len(self.sequences), 'sequence')}, {counted(frames, 'frame')}"]
        for subset, splits in self.subsets.items():
            sizes = [
                f"{split} {counted(number, 'sequence')} ({counted(frames, 'frame')})"
                for split, (number, frames) in splits.items()
            ]
            lines.append(f"  subset {subset}: {', '.join(sizes)}")
        sources = Counter(each.scale.source if each.scale.is_valid else "nothing" for each in self.sequences)
        scales = [f"{source}: {counted(number, 'sequence')}" for source, number in sources.items()]
        lines.append(f"  scales from {', '.join(scales)}")
        lines += [f"  {counted(count, 'frame')} skipped: {why}" for why, count in skipped.items()]
        return "\n".join([*lines, *map(str, self.sequences)])


class RootReport(NamedTuple):
    """All categories of a root; printed as one line for each item."""

    root: Path
    categories: list[CategoryReport]

    def __str__(self) -> str:
        return "\n".join([f"Co3D root {self.root}", *map(str, self.categories)])


def inspect_root(root: Path, cache_dir: Path | None = None) -> RootReport:
    """Report what a Co3D root holds according to its annotations; `verify_root` reads every file.

    Args:
        root: folder that holds the categories' folders.
        cache_dir: where the scales of the scenes are stored; in the root if null.
    """
    root = Path(root)
    return RootReport(
        root, [_inspect(root, name, subsets, cache_dir) for name, subsets in find_categories(root).items()]
    )


def _inspect(root: Path, name: str, subsets: list[str], cache_dir: Path | None) -> CategoryReport:
    annotations = read_category(root, name)
    sequences = build_sequences(root, name, annotations)
    scales = load_scales(root, name, annotations.checksum, sequences.values(), cache_dir)
    lists = {}
    for subset in subsets:
        splits = read_set_list(root, name, subset)
        lists[subset] = {split: (len({s for s, _ in ids}), len(ids)) for split, ids in splits.items()}
    return CategoryReport(name, lists, [_report(each, scales[each.name]) for each in sequences.values()])


def _report(sequence: Sequence, scale: SceneScale) -> SequenceReport:
    return SequenceReport(
        name=sequence.name,
        frames=len(sequence.frames),
        image_size=sequence.frames[0].size,
        quality=sequence.quality,
        with_depth=sum(frame.depth is not None for frame in sequence.frames),
        with_mask=sum(frame.mask_path is not None for frame in sequence.frames),
        scale=scale,
        skipped=[(frame.number, frame.problem) for frame in sequence.frames if frame.problem is not None],
    )
