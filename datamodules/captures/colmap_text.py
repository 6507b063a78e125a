"""COLMAP's text files."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from datamodules.captures.colmap_files import ColmapCamera, ColmapImage, ColmapModel, camera_models
from dfm_lightning.errors import UserError

_IMAGE_WORDS = 10
Number = TypeVar("Number", int, float)


def read_text(folder: Path) -> ColmapModel:
    """Read cameras.txt, images.txt and, if it exists, points3D.txt.

    Raises:
        UserError: a line is not in COLMAP's format. Numbers that are not finite are left to the caller.
    """
    path = folder / "points3D.txt"
    points, tracks = _read_points(path) if path.is_file() else ([], [])
    return ColmapModel(
        _read_cameras(folder / "cameras.txt"),
        _read_images(folder / "images.txt"),
        np.array(points, dtype=np.float64).reshape(-1, 3),
        np.array(tracks, dtype=np.int64).reshape(-1, 2),
    )


class _Line(NamedTuple):
    path: Path
    number: int
    text: str

    def wrong(self, what: str) -> UserError:
        return UserError(f"{self.path}, line {self.number}: {what}")

    @property
    def is_skipped(self) -> bool:
        """Tell whether COLMAP skips the line where it expects a record."""
        return not self.text or self.text.startswith("#")

    def parse(self, word: str, kind: type[Number]) -> Number:
        try:
            # (No identifier has more than 64 bits.)
            return int(np.int64(int(word))) if kind is int else kind(word)
        except (ValueError, OverflowError):
            raise self.wrong(f"expected a {'whole ' if kind is int else ''}number, got {word!r}") from None


def _lines(path: Path) -> Iterator[_Line]:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(text.split("\n"), start=1):
        yield _Line(path, number, line.strip())


def _read_cameras(path: Path) -> dict[int, ColmapCamera]:
    models = {model.name: model for model in camera_models().values()}
    cameras = {}
    for line in _lines(path):
        if line.is_skipped:
            continue
        words = line.text.split()
        if len(words) < 4:
            raise line.wrong(f"expected a number, a model, width, height and parameters, got {len(words)} words")
        if words[1] not in models:
            raise line.wrong(f"the camera model {words[1]} is not known, expected one of {', '.join(models)}")
        model = models[words[1]]
        if len(words) != 4 + len(model.parameters):
            names = ", ".join(model.parameters)
            expected = f"{len(model.parameters)} parameters ({names})"
            raise line.wrong(f"a camera of the model {model.name} has {expected}, got {len(words) - 4}")
        width, height, *parameters = (line.parse(word, float) for word in words[2:])
        number = line.parse(words[0], int)
        if number in cameras:
            raise line.wrong(f"there is a camera {number} already")
        cameras[number] = ColmapCamera(model, width, height, tuple(parameters))
    return cameras


def _read_images(path: Path) -> dict[int, ColmapImage]:
    images: dict[int, ColmapImage] = {}
    points_may_follow = False
    for line in _lines(path):
        # The line after an image's lists its points, and may be empty. Some programs omit all such lines.
        if points_may_follow and (line.is_skipped or _is_points(line)):
            points_may_follow = False
        elif not line.is_skipped:
            number, image = _image(line)
            if number in images:
                raise line.wrong(f"there is an image {number} already: {images[number].name}")
            images[number] = image
            points_may_follow = True
    return images


def _is_points(line: _Line) -> bool:
    """Tell whether a line is a list of points: x, y and a number each."""
    words = line.text.split()
    try:
        np.array(words, dtype=np.float64)
    except ValueError:
        return False
    return len(words) % 3 == 0


def _image(line: _Line) -> tuple[int, ColmapImage]:
    # The last field is the name, which may contain spaces.
    words = line.text.split(maxsplit=_IMAGE_WORDS - 1)
    if len(words) < _IMAGE_WORDS:
        raise line.wrong(
            f"expected an image's {_IMAGE_WORDS} words (number, quaternion, translation, number of its camera, "
            f"name) or, behind an image, three numbers a point, got {len(words)} words"
        )
    pose = tuple(line.parse(word, float) for word in words[1:8])
    return line.parse(words[0], int), ColmapImage(words[9], line.parse(words[8], int), pose[:4], pose[4:])


def _read_points(path: Path) -> tuple[list[list[float]], list[tuple[int, int]]]:
    points: list[list[float]] = []
    tracks: list[tuple[int, int]] = []
    for line in _lines(path):
        if line.is_skipped:
            continue
        words = line.text.split()
        if len(words) < 8 or len(words) % 2:
            raise line.wrong(f"expected the 8 words of a point and pairs of numbers behind them, got {len(words)}")
        tracks += [(line.parse(image, int), len(points)) for image in words[8::2]]
        points.append([line.parse(word, float) for word in words[1:4]])
    return points, tracks
