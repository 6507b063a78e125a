"""Pictures and videos within the page, as data URIs, within its size limit."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from dfm_lightning.callbacks.output.layers import Layer, Layers, Place, laid_out
from dfm_lightning.report.runs import Noun
from dfm_lightning.report.scene_cards import Card, layers_of


class Quality(NamedTuple):
    """The storage of pictures: WebP's quality (None: lossless), and the divisor of their sides."""

    quality: int | None
    reduction: int
    words: str


# Tried in turn until all pictures fit.
QUALITIES = (
    Quality(None, 1, ""),
    Quality(90, 1, "with the losses of WebP at quality 90"),
    Quality(85, 2, "at half size, with the losses of WebP at quality 85"),
    Quality(80, 4, "at a quarter of their size, with the losses of WebP at quality 80"),
)


class Sheet(NamedTuple):
    """All pictures of a run's scene in one, with the names of its views and the places of its layers."""

    uri: str
    views: list[str]
    places: list[Place]


class Media(NamedTuple):
    """The media of a page: sheets by card and row, videos by card, row and number; and what was cut, in words."""

    sheets: dict[tuple[int, int], Sheet]
    videos: dict[tuple[int, int, int], str]
    cuts: list[str]


def collect(cards: Sequence[Card], limit: int, noun: Noun) -> Media:
    """Collect the pictures and videos of some scenes within a number of bytes: first all pictures, then videos.

    Pictures are stored at the best quality that fits; if they do not fit at the lowest, those of the last scenes
    are left out. The first video of each scene and run comes first.
    """
    sheets, cuts = _sheets(cards, limit, noun)
    left = limit - sum(len(sheet.uri) for sheet in sheets.values())
    videos, left_out = _videos(cards, left)
    if left_out:
        cuts.append(f"{left_out} of {left_out + len(videos)} videos are left out")
    return Media(sheets, videos, cuts)


def _sheets(cards: Sequence[Card], limit: int, noun: Noun) -> tuple[dict[tuple[int, int], Sheet], list[str]]:
    for quality in QUALITIES:
        last = quality is QUALITIES[-1]
        found: dict[tuple[int, int], Sheet] = {}
        size = 0
        for number, card in enumerate(cards):
            of_card = {
                (number, row): _sheet(pictures, quality)
                for row, (_, pictures) in enumerate(layers_of(card))
                if pictures is not None
            }
            size += sum(len(sheet.uri) for sheet in of_card.values())
            if size > limit:
                break
            found |= of_card
        else:
            return found, [f"pictures are stored {quality.words}"] if quality.words else []
        if last:
            kept = len({number for number, _ in found})
            return found, [
                f"pictures are stored {quality.words}, and only those of {kept} of {len(cards)} {noun.many}"
            ]
    raise AssertionError  # the last quality returns


def _sheet(pictures: Layers, quality: Quality) -> Sheet:
    layers = [_reduced(layer, quality.reduction) for layer in pictures.layers]
    picture, places = laid_out(layers)
    file = io.BytesIO()
    if quality.quality is None:
        Image.fromarray(picture).save(file, format="WEBP", lossless=True, exact=True)
    else:
        Image.fromarray(picture).save(file, format="WEBP", quality=quality.quality)
    return Sheet(_uri("image/webp", file.getvalue()), pictures.views, places)


def _reduced(layer: Layer, times: int) -> Layer:
    if times == 1:
        return layer
    height, width = (max(1, side // times) for side in layer.images.shape[1:3])
    images = [Image.fromarray(image).resize((width, height), Image.Resampling.BOX) for image in layer.images]
    return layer._replace(images=np.stack([np.asarray(image) for image in images]))


def _videos(cards: Sequence[Card], limit: int) -> tuple[dict[tuple[int, int, int], str], int]:
    places = [
        (order, number, row)
        for number, card in enumerate(cards)
        for row, each in enumerate(card.rows)
        for order in range(len(each.videos))
    ]
    found: dict[tuple[int, int, int], str] = {}
    for order, number, row in sorted(places):
        _, path = cards[number].rows[row].videos[order]
        # Base64 encodes three bytes as four.
        if path.stat().st_size * 4 / 3 + 40 <= limit:
            found[number, row, order] = _uri("video/mp4", path.read_bytes())
            limit -= len(found[number, row, order])
    return found, len(places) - len(found)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
