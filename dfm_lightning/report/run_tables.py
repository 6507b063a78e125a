"""The tables of a report: the runs, their scores, the differences of these, and the settings they differ in."""

from itertools import combinations
from typing import Any

from dfm_lightning.callbacks.report_tables import Scores
from dfm_lightning.report.comparisons import (
    Score,
    all_scores,
    difference,
    estimate_of,
    marks,
    shared_scenes,
    verdict,
)
from dfm_lightning.report.directions import direction_of
from dfm_lightning.report.runs import Noun, Run, noun_of
from dfm_lightning.report.statistics import LEVEL, RESAMPLES, Estimate
from dfm_lightning.report.tables import NOTHING, Cell, Mark, Table, estimated, number
from dfm_lightning.wording import counted

# With more runs, each is compared with the first alone.
MOST_RUNS_IN_PAIRS = 4
_FEW_SCENES = 10
# Recorded, but uninteresting beside the others, or long.
_NOT_COMPARED = frozenset({"config", "checkpoint", "scenes", "processes", "evaluations", "resolution"})
_COLUMNS = {
    "scenes": "", "samples": "samples", "resolution": "resolution", "model": "model",
    "sampler": "sampler", "evaluations": "evaluations", "guidance_scale": "guidance", "seed": "seed",
    "weights": "weights", "precision": "precision", "checkpoint": "checkpoint", "max_steps": "training steps",
}  # fmt: skip


def table_of_runs(runs: list[Run]) -> Table:
    """Tabulate the runs and their records."""
    shown = {
        name: title for name, title in _COLUMNS.items() if any(run.settings.get(name) is not None for run in runs)
    }
    rows = [
        [Cell(run.name), Cell(run.kind), *(Cell(_setting(run, name)) for name in shown), Cell(_state(run))]
        for run in runs
    ]
    head = ["run", "kind", *(title or f"{noun_of(runs).many} (N)" for title in shown.values()), "state"]
    note = "Weights are named by a fingerprint of all their numbers. Evaluations are those of one sample."
    return Table("runs", "Runs", note, head, rows)


def table_of_scores(runs: list[Run], role: str) -> Table:
    """Tabulate the scores of one role's views: a row for each score, a column for each run."""
    items = noun_of(runs).many
    rows = [[Cell(f"{items} (N)"), *(Cell(str(len(run.scenes))) for run in runs)]]
    for score in (each for each in all_scores(runs) if each.role == role):
        cells = []
        for run, mark in zip(runs, marks(runs, score), strict=True):
            estimate = estimate_of(run, score)
            cells.append(
                Cell(NOTHING, reason=why_missing(run, score))
                if estimate is None
                else _counted(run, estimate, mark)
            )
        rows.append([Cell(_named(score.name)), *cells])
    note = f"Means over {items}, {_intervals(items)}."
    if any(cell.mark for row in rows for cell in row):
        note += f" ★ is the best of a row, ≈ not significantly worse (paired where {items} are shared)."
    if any(len(run.scenes) < _FEW_SCENES for run in runs):
        note += f" With fewer than {_FEW_SCENES} {items}, such intervals are too narrow."
    return Table(f"scores-{role}", f"Scores of {role} views" if role != "all" else "Scores", note,
                 ["score", *(run.name for run in runs)], rows)  # fmt: skip


def table_of_differences(runs: list[Run]) -> Table | None:
    """Tabulate differences: a row for each score, a column for each pair of runs that share scenes."""
    few = len(runs) <= MOST_RUNS_IN_PAIRS
    every = combinations(runs, 2) if few else ((run, runs[0]) for run in runs[1:])
    pairs = [pair for pair in every if shared_scenes(*pair)]
    if not pairs:
        return None
    rows = []
    for score in all_scores(runs):
        estimates = [difference(first, second, score) for first, second in pairs]
        if any(estimates):
            cells = [_difference(estimate, score, noun_of(runs)) for estimate in estimates]
            rows.append([Cell(score.role), Cell(_named(score.name)), *cells])
    items = noun_of(runs).many
    note = (
        f"Mean differences over the {items} that both runs have, {_intervals(items)}. "
        "“Better” and “worse” are of the first of the two: the interval excludes zero (for each score by itself; "
        "of many true ties, one in twenty looks like a difference). A tie does not prove that two runs are equal."
    )
    head = ["views", "score", *(f"{first.name} − {second.name}" for first, second in pairs)]
    return Table("differences", "Paired differences", note, head, rows)


def table_of_joint_scores(runs: list[Run]) -> Table | None:
    """Tabulate the scores of all scenes at once; ends of intervals are beside their value."""
    found = dict.fromkeys(
        Score(role, name) for run in runs for role, scores in run.joint.items() for name in scores
    )
    shown = [score for score in found if not _is_end(score, list(found))]
    if not shown:
        return None
    rows = []
    for score in shown:
        parts = [run.joint.get(score.role, {}) for run in runs]
        rows.append([Cell(score.role), Cell(_named(score.name)), *_joint_cells(runs, parts, score)])
    notes = dict.fromkeys(f"{name}: {note}." for run in runs for name, note in run.notes.items())
    head = ["of", "score", *(run.name for run in runs)]
    return Table("joint", f"All {noun_of(runs).many} together", " ".join(notes), head, rows)


def table_of_settings(runs: list[Run]) -> Table | None:
    """Tabulate the settings in which runs differ."""
    names = dict.fromkeys(name for run in runs for name in run.settings if name not in _NOT_COMPARED)
    differing = [name for name in names if len({_spelt(run.settings, name) for run in runs}) > 1]
    if len(runs) < 2 or not differing:
        return None
    rows = [[Cell(name), *(Cell(_spelt(run.settings, name)) for run in runs)] for name in differing]
    note = "All recorded settings in which these runs differ; – where a run has not recorded the setting."
    return Table("settings", "What the runs differ in", note, ["setting", *(run.name for run in runs)], rows)


def why_missing(run: Run, score: Score) -> str:
    """Explain why a run lacks a score that another has."""
    words = set(score.name.split("_"))
    for name, reason in run.missing.items():
        if name in words:
            return reason
    if not any(score.role in roles for roles in run.scenes.values()):
        return f"no {noun_of([run]).one} of this run has {score.role} views"
    if "spread" in words and run.settings.get("samples") == 1:
        return "one sample has no spread"
    return "not measured in this run"


def _counted(run: Run, estimate: Estimate, mark: Mark) -> Cell:
    """Format an estimate; add its number of scenes if that is not all."""
    counts = counted(estimate.scenes, *noun_of([run]))
    few = f"only {counts} of {len(run.scenes)} with this score" if estimate.scenes < len(run.scenes) else ""
    return estimated(estimate, mark, few)


def _difference(estimate: Estimate | None, score: Score, noun: Noun) -> Cell:
    if estimate is None:
        return Cell(NOTHING, reason=f"no {noun.one} has this score in both runs")
    few = f"one {noun.one} says nothing about others" if estimate.low is None else ""
    return estimated(estimate, "" if few else verdict(estimate, score.direction), few)


def _joint_cells(runs: list[Run], parts: list[Scores], score: Score) -> list[Cell]:
    values = [scores.get(score.name) for scores in parts]
    known = [value for value in values if value is not None]
    direction = direction_of(score.name)
    best = max(known, key=lambda value: value * direction) if direction and min(known) < max(known) else None
    cells = []
    for run, scores, value in zip(runs, parts, values, strict=True):
        if value is None:
            cells.append(Cell(NOTHING, reason=why_missing(run, score)))
            continue
        low, high = (scores.get(f"{score.name}_{end}") for end in ("low", "high"))
        mark: Mark = "best" if value == best else ""
        if low is None or high is None:
            cells.append(Cell(number(value), Estimate(value, None, None, len(run.scenes)), mark))
        else:
            cells.append(estimated(Estimate(value, low, high, len(run.scenes)), mark))
    return cells


def _is_end(score: Score, found: list[Score]) -> bool:
    stem, _, end = score.name.rpartition("_")
    return end in ("low", "high") and Score(score.role, stem) in found


def _intervals(items: str) -> str:
    return f"in brackets {LEVEL}% intervals, percentiles of {RESAMPLES} bootstrap resamples of the {items}"


def _named(name: str) -> str:
    return name.replace("_", " ")


def _state(run: Run) -> str:
    return "; ".join(run.notices) or "finished"


def _setting(run: Run, name: str) -> str:
    value = run.settings.get(name)
    if name == "resolution" and isinstance(value, list):
        return "×".join(map(str, value))
    return NOTHING if value is None else str(value)


def _spelt(settings: dict[str, Any], name: str) -> str:
    return str(settings[name]) if name in settings else NOTHING
