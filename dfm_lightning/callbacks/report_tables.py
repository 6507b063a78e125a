"""Scores of a test as CSV, as a table for reading, and on average."""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

# The scores of one role of views in one scene, by name; scores that cannot be computed are absent.
Scores = dict[str, float]
SceneScores = dict[str, dict[str, Scores]]  # by scene and role


def average_scores(scenes: Iterable[dict[str, Scores]]) -> dict[str, Scores]:
    """Average each score of each role over the scenes that have it."""
    collected: dict[str, dict[str, list[float]]] = {}
    for scene in scenes:
        for role, scores in scene.items():
            for name, value in scores.items():
                collected.setdefault(role, {}).setdefault(name, []).append(value)
    return {
        role: {name: sum(values) / len(values) for name, values in scores.items()}
        for role, scores in collected.items()
    }


def standard_errors(scenes: Iterable[dict[str, Scores]]) -> dict[str, Scores]:
    """Compute the standard error of each average of `average_scores`; it is left out for fewer than two scenes."""
    collected: dict[str, dict[str, list[float]]] = {}
    for scene in scenes:
        for role, scores in scene.items():
            for name, value in scores.items():
                collected.setdefault(role, {}).setdefault(name, []).append(value)
    return {
        role: {
            name: statistics.stdev(values) / math.sqrt(len(values))
            for name, values in scores.items()
            if len(values) > 1
        }
        for role, scores in collected.items()
    }


def columns_of(scores: list[Scores]) -> list[str]:
    """List the names of all scores, in order of first appearance."""
    return list(dict.fromkeys(name for row in scores for name in row))


def as_csv(scenes: SceneScores, average: dict[str, Scores], joint: dict[str, Scores]) -> str:
    """Write a line for each scene and role, then averages, their standard errors and the joint scores by role."""
    lines = [(key, role, scores) for key, roles in scenes.items() for role, scores in roles.items()]
    lines += [("average", role, scores) for role, scores in average.items()]
    lines += [
        ("standard error", role, scores) for role, scores in standard_errors(scenes.values()).items() if scores
    ]
    lines += [("joint", role, scores) for role, scores in joint.items()]
    columns = columns_of([scores for _, _, scores in lines])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scene", "views", *columns])
    for key, role, scores in lines:
        writer.writerow([key, role, *(scores.get(name, "missing") for name in columns)])
    return text.getvalue()


def as_table(
    roles: dict[str, Scores], names: Sequence[str], errors: dict[str, Scores] | None = None
) -> list[list[str]]:
    """Tabulate some scores, a column for each role, with standard errors if given; the first row is the head."""

    def cell(role: str, name: str) -> str:
        if name not in roles[role]:
            return "–"
        error = (errors or {}).get(role, {}).get(name)
        return f"{roles[role][name]:.3f}" + ("" if error is None else f" ± {error:.3f}")

    return [["", *roles], *([name.replace("_", " "), *(cell(role, name) for role in roles)] for name in names)]


def print_table(table: list[list[str]]) -> None:
    """Print a table on the terminal."""
    head, *rows = table
    shown = Table(*head)
    for row in rows:
        shown.add_row(*row)
    Console().print(shown)
