"""pixelSplat's evaluation index: which frames of which scenes are context and targets."""

from pathlib import Path
from typing import NamedTuple

from datamodules.json_files import read_json, whole_number
from datamodules.posed.views import Roles
from dfm_lightning.errors import UserError


class IndexEntry(NamedTuple):
    """0-based positions of frames in a scene's full camera file."""

    context: list[int]
    target: list[int]

    def roles(self, contexts: int) -> Roles:
        """Return the roles, with this many contexts given.

        The target farthest from every given context is diffused; the others are rendered from the same sample.
        """
        given = self.context[:contexts]
        farthest = max(self.target, key=lambda target: min(abs(target - context) for context in given))
        return Roles(given, farthest, [target for target in self.target if target != farthest])


class EvaluationIndex(NamedTuple):
    """The entries by scene, and the number of scenes that the file lists without frames (null)."""

    entries: dict[str, IndexEntry]
    nulls: int


def read_evaluation_index(path: Path) -> EvaluationIndex:
    """Read an evaluation index. Raises UserError if the file is none."""
    try:
        content = read_json(path)
        entries = {str(key): _entry(value) for key, value in content.items() if value is not None}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{path} should be an evaluation index {{scene: null | {{"context": [i, j], "target": [k, ...]}}}}: '
            f"{type(error).__name__}: {error}"
        ) from None
    if not entries:
        raise UserError(f"{path}: the evaluation index names no scene with frames")
    return EvaluationIndex(entries, len(content) - len(entries))


def _entry(value: dict[str, list[int]]) -> IndexEntry:
    context, target = ([whole_number(position) for position in value[name]] for name in ("context", "target"))
    if not context or not target or min(*context, *target, 0) < 0:
        raise ValueError(f"expected positions from 0 on of at least one context and one target, got {value}")
    return IndexEntry(context, target)


def known_scenes(index: EvaluationIndex, path: Path, known: set[str], skip_missing: bool) -> list[str]:
    """Return the scenes of an index that a data set has, in the order of the index.

    Raises:
        UserError: the data set lacks some and they are not to be skipped, or it lacks all.
    """
    missing = [key for key in index.entries if key not in known]
    if missing and (not skip_missing or len(missing) == len(index.entries)):
        raise UserError(
            f"{path} names {len(index.entries)} scenes, of which the data set lacks {len(missing)}, such as "
            f"{missing[0]!r}; set data.scenes.missing to skip to go without them, or data.evaluation.index to null"
        )
    return [key for key in index.entries if key in known]
