"""Read the annotation files of Co3D (version 2): frames, sequences, set lists, evaluation batches.

Unknown keys are ignored, absent ones read as null.
"""

import gzip
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.json_files import parse_json, read_json, whole_number
from dfm_lightning.errors import UserError

# The paths in some files of version 2 begin with the folder in which the data set was made.
_FOREIGN_PREFIX = "/large_experiments/p3/replay/datasets/co3d/co3d45k_220512/export_v23/"

# The errors that content of another form raises in parsing.
_FAULTS = (AttributeError, LookupError, OverflowError, TypeError, ValueError)

FrameId = tuple[str, int]
"""Sequence name and frame number."""


class DepthAnnotation(NamedTuple):
    """A depth map's files, relative to the root. Stored half floats times `scale_adjustment` are world units."""

    path: str
    scale_adjustment: float
    mask_path: str | None


class FrameAnnotation(NamedTuple):
    """One frame. `size` is (height, width); `viewpoint` is as in the file."""

    sequence: str
    number: int
    path: str
    size: tuple[int, int]
    viewpoint: dict[str, Any] | None
    mask_path: str | None
    depth: DepthAnnotation | None


class CategoryAnnotations(NamedTuple):
    """The annotations of a category. `quality` is the camera quality score by sequence; None if unknown.

    `checksum` is that of the frame annotations' file.
    """

    frames: list[FrameAnnotation]
    quality: dict[str, float | None]
    checksum: int


def find_categories(root: Path) -> dict[str, list[str]]:
    """List the subsets of each category of a root, by the files that exist."""
    if not root.is_dir():
        raise UserError(f"expected a Co3D root, but there is no folder {root}")
    categories = {}
    for path in sorted(root.glob("*/frame_annotations.jgz")):
        lists = sorted(path.parent.glob("set_lists/set_lists_*.json"))
        categories[path.parent.name] = [file.stem.removeprefix("set_lists_") for file in lists]
    if not categories:
        raise UserError(f"{root} is not a Co3D root: no folder in it holds a frame_annotations.jgz")
    return categories


def check_choice(root: Path, category: str, subset: str) -> None:
    """Refuse a category or subset that the root lacks, and list those it has."""
    categories = find_categories(root)
    if category not in categories:
        raise UserError(f"{root} has no category {category!r}; it has: {', '.join(categories)}")
    if subset not in categories[category]:
        known = ", ".join(categories[category]) or "none at all"
        raise UserError(f"category {category!r} in {root} has no subset {subset!r}; it has: {known}")


def read_category(root: Path, category: str) -> CategoryAnnotations:
    """Read the annotations of all frames and sequences of a category."""
    path = root / category / "frame_annotations.jgz"
    entries, checksum = _read_jgz(path)
    try:
        frames = [parse_frame(entry) for entry in entries]
    except _FAULTS as error:
        raise UserError(f"{path}: a frame lacks an entry, or has one in another form ({error!r})") from None
    return CategoryAnnotations(frames, _read_quality(root / category / "sequence_annotations.jgz"), checksum)


def read_set_list(root: Path, category: str, subset: str) -> dict[str, list[FrameId]]:
    """Read the frames of each split ("train", "val", "test") of a subset."""
    path = root / category / "set_lists" / f"set_lists_{subset}.json"
    lists = _read_json(path)
    try:
        return {split: [_frame_id(entry) for entry in lists.get(split, [])] for split in ("train", "val", "test")}
    except _FAULTS as error:
        raise UserError(f"{path}: not a set list of Co3D ({error!r})") from None


def read_eval_batches(root: Path, category: str, subset: str) -> list[list[FrameId]]:
    """Read the evaluation batches of a subset, target first; none if there is no such file."""
    path = root / category / "eval_batches" / f"eval_batches_{subset}.json"
    if not path.exists():
        return []
    try:
        return [[_frame_id(entry) for entry in batch] for batch in _read_json(path)]
    except _FAULTS as error:
        raise UserError(f"{path}: not a file of evaluation batches of Co3D ({error!r})") from None


def _read_quality(path: Path) -> dict[str, float | None]:
    if not path.exists():
        return {}
    entries, _ = _read_jgz(path)
    try:
        return {_name(entry["sequence_name"]): _score(entry.get("viewpoint_quality_score")) for entry in entries}
    except _FAULTS as error:
        raise UserError(f"{path}: a sequence lacks an entry, or has one in another form ({error!r})") from None


def parse_frame(entry: dict[str, Any]) -> FrameAnnotation:
    """Parse an entry of a file of frame annotations. Raises one of `_FAULTS` for a bad one."""
    height, width = entry["image"]["size"]
    mask, depth = entry.get("mask"), entry.get("depth")
    return FrameAnnotation(
        sequence=_name(entry["sequence_name"]),
        number=whole_number(entry["frame_number"]),
        path=_local(entry["image"]["path"]),
        size=(whole_number(height), whole_number(width)),
        viewpoint=_viewpoint(entry.get("viewpoint")),
        mask_path=_local(mask["path"]) if mask and mask.get("path") else None,
        depth=_depth(depth) if depth and depth.get("path") else None,
    )


def _depth(entry: dict[str, Any]) -> DepthAnnotation:
    mask_path = entry.get("mask_path")
    scale = entry.get("scale_adjustment")
    return DepthAnnotation(
        _local(entry["path"]), 1.0 if scale is None else float(scale), _local(mask_path) if mask_path else None
    )


def _viewpoint(entry: Any) -> dict[str, Any] | None:
    if entry is not None and not isinstance(entry, dict):
        raise TypeError(f"expected a viewpoint or null, got {entry!r:.80}")
    return entry


def _score(value: Any) -> float | None:
    return None if value is None else float(value)


def _name(value: Any) -> str:
    """Return a sequence's name. Some writers make numbers of names such as 189."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"expected a sequence's name, got {value!r:.80}")
    return str(value)


def _frame_id(entry: list[Any]) -> FrameId:
    return _name(entry[0]), whole_number(entry[1])


def _local(path: str) -> str:
    return path.removeprefix(_FOREIGN_PREFIX)


def _read_jgz(path: Path) -> tuple[list[dict[str, Any]], int]:
    try:
        packed = path.read_bytes()
        entries = parse_json(gzip.decompress(packed))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path}: expected gzip of a JSON list ({error})") from None
    if not isinstance(entries, list):
        raise UserError(f"{path}: expected gzip of a JSON list, not of a {type(entries).__name__}")
    return entries, zlib.crc32(packed)


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a JSON file ({error})") from None
