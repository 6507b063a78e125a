"""The content of a run's folder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dfm_lightning.callbacks.report_tables import SceneScores, Scores
from dfm_lightning.callbacks.sketches import Sketch
from dfm_lightning.wording import plural_of

Kind = Literal["test", "predict", "fit"]


class Curve(NamedTuple):
    """A number logged while training: its steps, hours since the first logged number, and values."""

    steps: list[int]
    hours: list[float]
    values: list[float]


@dataclass(frozen=True)
class Run:
    """A run's folder, and its content.

    `settings` are those recorded with its results, flat; `notices` are remarks on the run, such as that it is
    unfinished, or of an older version. The rest depends on the kind of run:

    test: `scenes`, the scores by scene, role and name; `sketches` of the data of each scene, if recorded;
    `joint`, the scores of all scenes at once; `missing` and `notes`, reasons and explanations; `item`, the noun
    for a scene, if recorded. predict: `samples`, the folders of each scene's samples; `sketches` of the requests.
    fit: `curves` by name.
    """

    name: str
    path: Path
    kind: Kind
    settings: dict[str, Any]
    notices: tuple[str, ...] = ()
    scenes: SceneScores = field(default_factory=dict)
    sketches: dict[str, Sketch] = field(default_factory=dict)
    joint: dict[str, Scores] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[Path]] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    item: str | None = None


class Noun(NamedTuple):
    """A word for scenes, such as clip."""

    one: str
    many: str


def noun_of(runs: list[Run]) -> Noun:
    """Return the noun that runs have recorded for their scenes; "scene" if they disagree or have recorded none."""
    items = {run.item for run in runs} - {None}
    item = (items.pop() if len(items) == 1 else None) or "scene"
    return Noun(item, plural_of(item))
