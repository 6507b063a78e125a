"""COLMAP's binary files."""

import struct
from pathlib import Path

import numpy as np

from datamodules.captures.colmap_files import ColmapCamera, ColmapImage, ColmapModel, camera_models
from dfm_lightning.errors import UserError


def read_binary(folder: Path) -> ColmapModel:
    """Read cameras.bin, images.bin and, if it exists, points3D.bin.

    Raises:
        UserError: a file's content does not match its counts to the last byte.
    """
    images = _read_images(folder / "images.bin")
    path = folder / "points3D.bin"
    points, tracks = _read_points(path) if path.is_file() else ([], [])
    return ColmapModel(
        _read_cameras(folder / "cameras.bin"),
        images,
        np.array(points, dtype=np.float64).reshape(-1, 3),
        np.concatenate([np.empty((0, 2), dtype=np.int64), *tracks]),
    )


class _Records:
    """A file of a given number of records, whose fields are read in turn."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error}") from None
        self.at = 0
        self.record = 0
        self.count: int = self.take("Q")[0]

    def __iter__(self) -> "_Records":
        return self

    def __next__(self) -> "_Records":
        if self.record == self.count:
            if self.at != len(self.content):
                raise UserError(
                    f"{self.path}: {len(self.content) - self.at} bytes too many after {self.count} records"
                )
            raise StopIteration
        self.record += 1
        return self

    def take(self, layout: str) -> tuple:
        start = self.skip(struct.calcsize(f"<{layout}"))
        return struct.unpack_from(f"<{layout}", self.content, start)

    def skip(self, size: int) -> int:
        """Advance by this many bytes; return where they began."""
        start = self.at
        if start + size > len(self.content):
            raise UserError(
                f"{self.path}: the file is cut short: it ends at byte {len(self.content)}, within "
                f"{f'record {self.record} of {self.count}' if self.record else 'its head'}"
            )
        self.at += size
        return start

    def take_name(self) -> str:
        end = self.content.find(b"\0", self.at)
        name = self.content[self.at : end]
        self.skip((end if end >= 0 else len(self.content)) + 1 - self.at)
        # Decoded like file names: a name that is not UTF-8 still finds its file.
        return name.decode("utf-8", "surrogateescape")


def _read_cameras(path: Path) -> dict[int, ColmapCamera]:
    models = camera_models()
    cameras = {}
    for record in (records := _Records(path)):
        number, model, width, height = record.take("iiQQ")
        if model not in models:
            known = ", ".join(f"{number} {known.name}" for number, known in models.items())
            raise UserError(f"{path}: camera {number}: the camera model number {model} is not one of {known}")
        parameters = records.take(f"{len(models[model].parameters)}d")
        cameras[number] = ColmapCamera(models[model], float(width), float(height), parameters)
    return cameras


def _read_images(path: Path) -> dict[int, ColmapImage]:
    images = {}
    for record in _Records(path):
        number, *pose, camera = record.take("i7di")
        images[number] = ColmapImage(record.take_name(), camera, tuple(pose[:4]), tuple(pose[4:]))
        record.skip(24 * record.take("Q")[0])  # its points: two doubles and a number each
    return images


def _read_points(path: Path) -> tuple[list[tuple], list[np.ndarray]]:
    points, tracks = [], []
    for row, record in enumerate(_Records(path)):
        points.append(record.take("Q3d3Bd")[1:4])
        length = record.take("Q")[0]
        start = record.skip(8 * length)
        seen_by = np.frombuffer(record.content, "<i4", 2 * length, start)[::2]
        tracks.append(np.stack([seen_by.astype(np.int64), np.full(length, row)], axis=1))
    return points, tracks
