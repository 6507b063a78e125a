"""The page: tables, charts and scenes put into templates."""

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from dfm_lightning.callbacks.output.layers import Place
from dfm_lightning.callbacks.output.templates import rendered
from dfm_lightning.report.charts import HEIGHT, WIDTH, LineChart, ShareChart
from dfm_lightning.report.comparisons import all_scores, comparable, same_data, shared_scenes
from dfm_lightning.report.curves import sampler_charts, training_charts
from dfm_lightning.report.exports import as_csv, as_latex, as_markdown
from dfm_lightning.report.media import Media, collect
from dfm_lightning.report.run_tables import (
    table_of_differences,
    table_of_joint_scores,
    table_of_runs,
    table_of_scores,
    table_of_settings,
)
from dfm_lightning.report.runs import Run, noun_of
from dfm_lightning.report.scene_cards import GIVEN, Card, cards_of
from dfm_lightning.report.scene_pictures import SHEET
from dfm_lightning.report.tables import Table
from dfm_lightning.report.truth import truth_charts
from dfm_lightning.wording import counted

_TEMPLATES = Path(__file__).parent / "templates"
_EXPORTS = (("CSV", "csv", "text/csv", as_csv), ("Markdown", "md", "text/markdown", as_markdown),
            ("LaTeX", "tex", "text/x-tex", as_latex))  # fmt: skip
# How often the content is cut again, to make room for the page's overhead.
_ATTEMPTS = 4


class Export(NamedTuple):
    """A table in another form, for saving or copying."""

    name: str
    file: str
    uri: str


class ShownTable(NamedTuple):
    """A table, its other forms, and the reasons that its cells refer to by number."""

    table: Table
    exports: list[Export]
    reasons: list[str]


class ShownGroup(NamedTuple):
    """Comparable tests: their tables and charts."""

    title: str
    tables: list[ShownTable]
    missing: list[str]
    truth: list[ShareChart]
    samplers: list[LineChart]


class ShownFigure(NamedTuple):
    """A layer of a scene in the page: its name, its sample, its place in a sheet, and its description."""

    name: str
    sample: int | None
    sheet: str
    place: Place
    views: list[str]
    alt: str
    is_sheet: bool


class ShownVideo(NamedTuple):
    """A video of a sample."""

    name: str
    sample: int
    source: str
    alt: str


class ShownRow(NamedTuple):
    """One run's part of a scene."""

    name: str
    figures: list[ShownFigure]
    videos: list[ShownVideo]


class ShownCard(NamedTuple):
    """A scene: its context and truth, and each run's samples."""

    key: str
    given: list[ShownFigure]
    rows: list[ShownRow]


def notices_of(runs: list[Run]) -> list[str]:
    """List what readers must know before comparing, a line each."""
    lines = [f"{run.name}: {notice}" for run in runs for notice in run.notices]
    tests = [run for run in runs if run.kind == "test"]
    groups = comparable(tests)
    if len(groups) > 1:
        names = "; ".join(_listed([run.name for run in group]) for group in groups)
        lines.append(f"These tests do not belong together and have tables of their own: {names}")
    for group in groups:
        for number, second in enumerate(group):
            for first in group[:number]:
                lines += _about_pair(first, second)
    return lines


def page_of(
    runs: list[Run], title: str, most_scenes: int, limit: int, pictures_first: bool
) -> tuple[str, list[str]]:
    """Return the page's text, of at most `limit` bytes if its tables leave room, and what was cut."""
    cards, number = cards_of([run for run in runs if run.kind != "fit"], most_scenes)
    noun = noun_of(runs)
    cuts = [f"{len(cards)} of {number} {noun.many} are shown"] if len(cards) < number else []
    values = {
        "title": title,
        "pictures_first": pictures_first,
        "notices": notices_of(runs),
        "runs": shown_table(table_of_runs(runs)),
        "groups": _groups([run for run in runs if run.kind == "test"]),
        "training": training_charts([run for run in runs if run.kind == "fit"]),
        "width": WIDTH,
        "height": HEIGHT,
        "items": noun.many,
    }
    text = _rendered(values, cards, Media({}, {}, []), cuts)
    room, said = limit - len(text.encode()), cuts
    for _ in range(_ATTEMPTS):
        media = collect(cards, room, noun)
        said = cuts + media.cuts
        text = _rendered(values, cards, media, said)
        excess = len(text.encode()) - limit
        if excess <= 0:
            break
        room -= excess
    return text, said


def shown_table(table: Table) -> ShownTable:
    """Return a table with all its forms."""
    reasons = list(dict.fromkeys(cell.reason for row in table.rows for cell in row if cell.reason))
    exports = [
        Export(name, f"{table.name}.{extension}", f"data:{kind};charset=utf-8,{quote(write(table))}")
        for name, extension, kind, write in _EXPORTS
    ]
    return ShownTable(table, exports, reasons)


def _rendered(values: dict[str, Any], cards: list[Card], media: Media, cuts: list[str]) -> str:
    shown = [_card(number, card, media) for number, card in enumerate(cards)]
    figures = [
        figure for card in shown for part in (card.given, *(row.figures for row in card.rows)) for figure in part
    ]
    data = {
        "sheets": {_name(*place): sheet.uri for place, sheet in media.sheets.items()},
        "videos": {_name(*place): uri for place, uri in media.videos.items()},
        "scores": [[_rounded(row.scores) for row in card.rows] for card in cards],
    }
    return rendered(
        "report.html.j2",
        _TEMPLATES,
        **values,
        cards=shown,
        cuts=cuts,
        data=data,
        scores=list(dict.fromkeys(name for card in cards for row in card.rows for name in row.scores)),
        layers=list(dict.fromkeys(figure.name for figure in figures)),
        samples=max((figure.sample or 0 for figure in figures), default=0),
        views=max((figure.views for figure in figures), key=len, default=[]),
        several_runs=any(len(card.rows) > 1 for card in cards),
    )


def _groups(tests: list[Run]) -> list[ShownGroup]:
    groups = comparable(tests)
    found = []
    for number, runs in enumerate(groups):
        roles = dict.fromkeys(score.role for score in all_scores(runs))
        tables = [
            *(table_of_scores(runs, role) for role in roles),
            table_of_joint_scores(runs),
            table_of_differences(runs),
            table_of_settings(runs),
        ]
        suffix = f"-{number + 1}" if len(groups) > 1 else ""
        shown = [shown_table(table._replace(name=table.name + suffix)) for table in tables if table is not None]
        title = "Scores" if len(groups) == 1 else f"Scores of {_listed([run.name for run in runs])}"
        found.append(ShownGroup(title, shown, _missing(runs), truth_charts(runs), sampler_charts(runs)))
    return found


def _missing(runs: list[Run]) -> list[str]:
    """List scores that could not be computed, with their reasons and the runs that lack them."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for name, reason in run.missing.items():
            lacking.setdefault((name, reason), []).append(run.name)
    return [
        f"{name}{'' if len(names) == len(runs) else f' ({_listed(names)})'}: {reason}"
        for (name, reason), names in lacking.items()
    ]


def _about_pair(first: Run, second: Run) -> list[str]:
    noun = noun_of([first, second])
    if not shared_scenes(first, second):
        return [f"{first.name} and {second.name} share no {noun.one}: their differences are not of pairs"]
    other = [key for key in first.scenes.keys() & second.scenes.keys() if not same_data(first, second, key)]
    if other:
        few = counted(len(other), noun.one, noun.many)
        return [f"{first.name} and {second.name}: not paired, since the data differ: {few} of one name"]
    return []


def _card(number: int, card: Card, media: Media) -> ShownCard:
    given: list[ShownFigure] = []
    rows = []
    for place, row in enumerate(card.rows):
        figures: list[ShownFigure] = []
        sheet = media.sheets.get((number, place))
        for each in sheet.places if sheet else []:
            of_sample = "" if each.sample is None else f" {each.sample}"
            whose = "" if each.name in GIVEN else f" by {row.run.name}"
            alt = f"{each.name}{of_sample} of {card.key}{whose}"
            figure = ShownFigure(
                each.name, each.sample, _name(number, place), each, sheet.views if sheet else [], alt,
                each.name == SHEET,
            )  # fmt: skip
            (given if each.name in GIVEN else figures).append(figure)
        videos = [
            ShownVideo(path.stem, sample, _name(number, place, order),
                       f"{path.stem}, sample {sample} of {card.key} by {row.run.name}")
            for order, (sample, path) in enumerate(row.videos)
            if (number, place, order) in media.videos
        ]  # fmt: skip
        rows.append(ShownRow(row.run.name, figures, videos))
    return ShownCard(card.key, given, rows)


def _name(*place: int) -> str:
    return "-".join(map(str, place))


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.6g}") for name, value in scores.items()}


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
