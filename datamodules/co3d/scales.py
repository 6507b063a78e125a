"""The scale of each scene: a typical distance in the data set's units, by which cameras and depths are divided."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from rich.progress import track

from datamodules.co3d.frames import read_depth
from datamodules.co3d.sequences import Sequence
from datamodules.image_files import UnreadableError
from datamodules.json_files import read_json
from dfm_lightning.files import write_json
from dfm_lightning.geometry.trajectories import focus_point
from dfm_lightning.wording import counted

CACHE_FILE = "scene_scales.json"
# Number of depth maps read from a sequence; more would hardly change the median.
_DEPTH_MAPS = 10

_log = logging.getLogger(__name__)

Source = Literal["depth", "cameras"]


class SceneScale(NamedTuple):
    """`value` is in the data set's units (NaN if it cannot be determined); `source` names what it is the median
    of.
    """

    value: float
    source: Source

    @property
    def is_valid(self) -> bool:
        return bool(np.isfinite(self.value)) and self.value > 0


class Measured(NamedTuple):
    """A scale, and the fault of the depth maps that it should have been computed from."""

    scale: SceneScale
    unread: list[str]


def compute_scale(root: Path, sequence: Sequence) -> Measured:
    """Compute the median depth over a sequence; without depths, the cameras' median distance to their focus."""
    usable = sequence.usable()
    with_depth = [sequence.frames[position] for position in usable if sequence.frames[position].depth]
    chosen = np.unique(np.linspace(0, len(with_depth) - 1, min(_DEPTH_MAPS, len(with_depth))).round().astype(int))
    medians, unread = [], []
    for index in chosen:
        try:
            depth, known = read_depth(root, with_depth[index])
        except UnreadableError as error:
            unread.append(str(error))
            continue
        if known.any():
            medians.append(float(np.median(depth[known])))
    if medians:
        return Measured(SceneScale(float(np.median(medians)), "depth"), unread)
    if len(usable) < 2:
        return Measured(SceneScale(float("nan"), "cameras"), unread)
    poses = sequence.camera_to_world[usable].double()
    distance = (poses[:, :3, 3] - focus_point(poses)).norm(dim=1)
    return Measured(SceneScale(float(torch.median(distance)), "cameras"), unread)


def load_scales(
    root: Path,
    category: str,
    checksum: int,
    sequences: Iterable[Sequence],
    cache_dir: Path | None = None,
) -> dict[str, SceneScale]:
    """Return the scales of sequences by name, from the category's cache file if it holds them.

    Missing ones are computed and added to the file, unless listed depth maps could not be read: they may still be
    downloaded. The file is in the category's folder, or in `cache_dir/category`; it is ignored if it belongs to
    other annotations (by their checksum).
    """
    path = (cache_dir or root) / category / CACHE_FILE
    sequences = list(sequences)
    kept = _read_cache(path, checksum, sequences)
    missing = [sequence for sequence in sequences if sequence.name not in kept]
    if not missing:
        return kept
    measured = {
        sequence.name: compute_scale(root, sequence)
        for sequence in track(missing, f"Scales of the scenes of {category}")
    }
    unread = [each.unread[0] for each in measured.values() if each.unread]
    if unread:
        _log.warning(
            "%s: listed depths of %s cannot be read, such as %s; scales found without them are not kept",
            category,
            counted(len(unread), "sequence"),
            unread[0],
        )
    complete = {name: each.scale for name, each in measured.items() if not each.unread}
    _write_cache(path, checksum, kept | complete)
    return kept | {name: each.scale for name, each in measured.items()}


def _write_cache(path: Path, checksum: int, scales: dict[str, SceneScale]) -> None:
    entries = {
        name: {"scale": scale.value, "source": scale.source}
        for name, scale in sorted(scales.items())
        if scale.is_valid
    }
    try:
        write_json(path, {"annotations_checksum": checksum, "all_depths_read": True, "scales": entries})
    except OSError as error:
        _log.warning("the scales of the scenes are not kept, so computed every time: %s (set cache_dir)", error)


def _read_cache(path: Path, checksum: int, sequences: list[Sequence]) -> dict[str, SceneScale]:
    try:
        content = read_json(path)
        if content["annotations_checksum"] != checksum:
            return {}
        scales = {name: SceneScale(float(e["scale"]), e["source"]) for name, e in content["scales"].items()}
        if any(scale.source not in get_args(Source) for scale in scales.values()):
            raise ValueError("a scale is from neither depths nor cameras")
        checked = content.get("all_depths_read", False)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        _log.warning("%s cannot be used and is made again (%r)", path, error)
        return {}
    # Earlier versions stored scales computed from cameras while depths were still missing.
    listed = {s.name for s in sequences if any(frame.depth for frame in s.frames)}
    doubtful = {name for name in listed if not checked and name in scales and scales[name].source == "cameras"}
    return {name: scale for name, scale in scales.items() if scale.is_valid and name not in doubtful}
