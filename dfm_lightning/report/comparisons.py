"""Compare runs: find comparable ones, their shared scenes, and the differences of their scores."""

from typing import NamedTuple

from dfm_lightning.callbacks.sketches import alike
from dfm_lightning.report.directions import direction_of
from dfm_lightning.report.runs import Run
from dfm_lightning.report.statistics import Estimate, mean_of, paired_difference, unpaired_difference
from dfm_lightning.report.tables import Mark


class Score(NamedTuple):
    """A score: the role of the views, and the score's name."""

    role: str
    name: str

    @property
    def direction(self) -> int:
        """See `direction_of`."""
        return direction_of(self.name)


def scores_of(run: Run) -> list[Score]:
    """List all scores that a run has of any scene, in order of first appearance."""
    found: dict[Score, None] = {}
    for roles in run.scenes.values():
        found |= {Score(role, name): None for role, scores in roles.items() for name in scores}
    return list(found)


def all_scores(runs: list[Run]) -> list[Score]:
    """List all scores of all runs, by role."""
    found = dict.fromkeys(score for run in runs for score in scores_of(run))
    roles = dict.fromkeys(score.role for score in found)
    return [score for role in roles for score in found if score.role == role]


def values_of(run: Run, score: Score) -> dict[str, float]:
    """Return a score of each scene that has it."""
    return {
        key: roles[score.role][score.name]
        for key, roles in sorted(run.scenes.items())
        if score.name in roles.get(score.role, {})
    }


def estimate_of(run: Run, score: Score) -> Estimate | None:
    """Average a score over the scenes that have it."""
    values = values_of(run, score)
    return mean_of(list(values.values())) if values else None


def comparable(runs: list[Run]) -> list[list[Run]]:
    """Group tests that share a score of one report, directly or through others."""
    groups: list[tuple[set[tuple[str, Score]], list[Run]]] = []
    for run in runs:
        scores = {(str(run.settings.get("report")), score) for score in scores_of(run)}
        joined = [group for group in groups if group[0] & scores]
        groups = [group for group in groups if not group[0] & scores]
        members = [member for _, group in joined for member in group] + [run]
        groups.append((scores.union(*(group[0] for group in joined)), members))
    order = {run.path: place for place, run in enumerate(runs)}
    sorted_groups = [sorted(group, key=lambda run: order[run.path]) for _, group in groups]
    return sorted(sorted_groups, key=lambda group: order[group[0].path])


def shared_scenes(first: Run, second: Run) -> list[str]:
    """List the scenes that two runs share: of one name, and of the same data if both recorded them."""
    return sorted(key for key in first.scenes.keys() & second.scenes.keys() if same_data(first, second, key))


def same_data(first: Run, second: Run, key: str) -> bool:
    """Tell whether a scene of two runs may be the same: data recorded by both are alike."""
    sketches = first.sketches.get(key, {}), second.sketches.get(key, {})
    common = sketches[0].keys() & sketches[1].keys()
    try:
        return alike(*({name: sketch[name] for name in common} for sketch in sketches))
    except ValueError:  # of a version that recorded something else
        return True


def difference(first: Run, second: Run, score: Score) -> Estimate | None:
    """Compute the difference of a score on the scenes that both runs share; None if there are none."""
    values = [values_of(run, score) for run in (first, second)]
    shared = [key for key in shared_scenes(first, second) if all(key in each for each in values)]
    return paired_difference(*([each[key] for key in shared] for each in values)) if shared else None


def verdict(estimate: Estimate, direction: int) -> Mark:
    """Judge the first run by a difference: better or worse if its interval excludes zero, else a tie."""
    if not estimate.excludes_zero:
        return "tie"
    if direction == 0:
        return ""
    return "better" if estimate.mean * direction > 0 else "worse"


def marks(runs: list[Run], score: Score) -> list[Mark]:
    """Return the best runs in a score, and those that are not significantly worse. None if all are equal."""
    estimates = [estimate_of(run, score) for run in runs]
    means = [None if estimate is None else estimate.mean for estimate in estimates]
    known = [mean for mean in means if mean is not None]
    if not score.direction or len(known) < 2 or min(known) == max(known):
        return [""] * len(runs)
    best = max(known, key=lambda mean: mean * score.direction)
    leader = runs[means.index(best)]
    found: list[Mark] = []
    for run, mean in zip(runs, means, strict=True):
        if mean is None:
            found.append("")
        elif mean == best:
            found.append("best")
        else:
            gap = difference(run, leader, score) or unpaired_difference(
                list(values_of(run, score).values()), list(values_of(leader, score).values())
            )
            found.append("tie" if gap.low is not None and not gap.excludes_zero else "")
    return found
