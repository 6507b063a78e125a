"""The scenes of a page, with each run's samples side by side."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dfm_lightning.callbacks.output.layers import Layers
from dfm_lightning.report.comparisons import same_data
from dfm_lightning.report.runs import Run
from dfm_lightning.report.scene_pictures import pictures_of, videos_of

# Layers that are the same for all runs are shown once.
GIVEN = frozenset({"context", "patch", "measurement", "true", "true flow"})


class CardRow(NamedTuple):
    """A run's part of a scene: its scores by "role name", and its videos with the number of their sample."""

    run: Run
    key: str
    scores: dict[str, float]
    videos: list[tuple[int, Path]]


class Card(NamedTuple):
    """A scene, and the runs that have it."""

    key: str
    rows: list[CardRow]


def cards_of(runs: list[Run], most: int) -> tuple[list[Card], int]:
    """Return the scenes of some runs by name, up to this many, those that most runs have first; and their total
    number.
    """
    cards = [card for key in _keys(runs) for card in _cards_of_key(runs, key)]
    chosen = sorted(cards, key=lambda card: (-len(card.rows), natural(card.key)))[:most]
    return sorted(chosen, key=lambda card: natural(card.key)), len(cards)


def layers_of(card: Card) -> Iterator[tuple[CardRow, Layers | None]]:
    """Return the layers that each run shows of a scene; the context appears with the first run that has it."""
    seen: set[tuple[str, str]] = set()
    for row in card.rows:
        pictures = pictures_of(row.run, row.key)
        if pictures is not None:
            kept = []
            for layer in pictures.layers:
                content = (layer.name, hashlib.sha256(layer.images.tobytes()).hexdigest())
                if layer.name not in GIVEN or content not in seen:
                    kept.append(layer)
                seen.add(content)
            pictures = pictures._replace(layers=kept) if kept else None
        yield row, pictures


def natural(text: str) -> list[tuple[int, str]]:
    """Return a sort key that puts scene 10 after scene 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _keys(runs: list[Run]) -> list[str]:
    found = dict.fromkeys(key for run in runs for key in (*run.scenes, *run.samples))
    return sorted(found, key=natural)


def _cards_of_key(runs: list[Run], key: str) -> list[Card]:
    """Return one card, or several if runs have given the same name to different data."""
    cards: list[Card] = []
    for run in runs:
        if key not in run.scenes and key not in run.samples:
            continue
        scores = {
            f"{role} {name}": value
            for role, scores in run.scenes.get(key, {}).items()
            for name, value in scores.items()
        }
        row = CardRow(run, key, scores, videos_of(run, key))
        same = next((card for card in cards if same_data(card.rows[0].run, run, key)), None)
        if same is None:
            cards.append(Card(key, [row]))
        else:
            same.rows.append(row)
    return cards
