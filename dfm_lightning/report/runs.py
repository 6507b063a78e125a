"""What a run has left in its folder, as it was read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dfm_lightning.callbacks.report_tables import SceneScores, Scores
from dfm_lightning.callbacks.sketches import Sketch

Kind = Literal["test", "predict", "fit"]


class Curve(NamedTuple):
    """A number logged while training: at which steps, how many hours after the first number of all, its values."""

    steps: list[int]
    hours: list[float]
    values: list[float]


@dataclass(frozen=True)
class Run:
    """A run's folder, and what is known of it.

    `settings` are those recorded with its results, flat; `notices` say what is to be known about the run: that it
    is unfinished, or of an older version. The rest depends on the kind of run:

    test: `scenes`, the scores by scene, role and name; `sketches` of the data of each scene, where they were
    recorded; `together`, the scores of all scenes at once; `missing` and `notes`, reasons and explanations.
    predict: `samples`, the folders of each scene's samples; `sketches` of what was asked for.
    fit: `curves` by name.
    """

    name: str
    path: Path
    kind: Kind
    settings: dict[str, Any]
    notices: tuple[str, ...] = ()
    scenes: SceneScores = field(default_factory=dict)
    sketches: dict[str, Sketch] = field(default_factory=dict)
    together: dict[str, Scores] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[Path]] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
