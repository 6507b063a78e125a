"""Charts of trainings over steps and hours, and of samplers over evaluations."""

import json
from typing import Any

from dfm_lightning.report.charts import LineChart, Series, line_chart
from dfm_lightning.report.comparisons import Score, all_scores, estimate_of
from dfm_lightning.report.runs import Run

# Settings that differ between runs of different samplers, and those that follow from them.
_OF_SAMPLER = ("sampler", "evaluations")
_NO_SETTINGS = frozenset({"config", "checkpoint", "processes"})


def training_charts(runs: list[Run]) -> list[LineChart]:
    """Chart everything logged over steps, and what validation measured over hours."""
    tags = dict.fromkeys(tag for run in runs for tag in run.curves)
    over_steps = [line_chart(tag, "steps", _series(runs, tag, hours=False)) for tag in tags]
    over_hours = [
        line_chart(f"{tag}, by time", "hours since the first logged step", _series(runs, tag, hours=True))
        for tag in tags
        if tag.startswith("val")
    ]
    return [*over_steps, *over_hours]


def _series(runs: list[Run], tag: str, hours: bool) -> list[Series]:
    found = []
    for run in runs:
        if tag in run.curves:
            curve = run.curves[tag]
            places = curve.hours if hours else curve.steps
            points = [(float(x), y, None, None) for x, y in zip(places, curve.values, strict=True)]
            found.append(Series(run.name, points))
    return found


def sampler_charts(runs: list[Run]) -> list[LineChart]:
    """Chart each score with a direction over evaluations, of runs that differ in their sampler alone."""
    charts = []
    for family in _families(runs):
        for score in (each for each in all_scores(family) if each.direction and _varies(family, each)):
            series: dict[str, list[tuple[float, float, float | None, float | None]]] = {}
            for run in family:
                estimate = estimate_of(run, score)
                if estimate is not None:
                    point = (float(run.settings["evaluations"]), *estimate[:3])
                    series.setdefault(_sampler(run), []).append(point)
            lines = [Series(name, sorted(points)) for name, points in series.items()]
            title = f"{score.name.replace('_', ' ')} ({score.role})"
            charts.append(line_chart(title, "evaluations", lines, logarithmic=True))
    return charts


def _varies(runs: list[Run], score: Score) -> bool:
    """Tell whether a score depends on the sampler; that of a deterministic estimate does not."""
    means = {estimate.mean for run in runs if (estimate := estimate_of(run, score)) is not None}
    return len(means) > 1


def _families(runs: list[Run]) -> list[list[Run]]:
    """Group runs that differ in their sampler alone and have several numbers of evaluations."""
    families: dict[str, list[Run]] = {}
    for run in runs:
        if isinstance(run.settings.get("evaluations"), int):
            families.setdefault(_spelt(_others(run.settings)), []).append(run)
    return [runs for runs in families.values() if len({run.settings["evaluations"] for run in runs}) > 1]


def _others(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in settings.items()
        if name.split(".")[0] not in _OF_SAMPLER and name not in _NO_SETTINGS
    }


def _sampler(run: Run) -> str:
    """Describe a sampler by its settings except the number of steps, naming those that differ."""
    settings = {
        name.removeprefix("sampler."): value
        for name, value in run.settings.items()
        if name.startswith("sampler.") and name != "sampler.steps"
    }
    named = [f"{name} {value}" for name, value in sorted(settings.items()) if name in ("eta", "order", "spacing")]
    return ", ".join([str(run.settings.get("sampler")), *named])


def _spelt(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)
