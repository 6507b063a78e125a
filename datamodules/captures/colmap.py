"""COLMAP's sparse models: cameras, images and points, as text or as binary files."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch

from datamodules.captures.lens import Lens
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import colmap_to_opencv

# By COLMAP's number of the model: its name, and which fields of `Lens` its parameters are.
_MODELS: dict[int, tuple[str, tuple[str, ...]]] = {
    0: ("SIMPLE_PINHOLE", ("f", "cx", "cy")),
    1: ("PINHOLE", ("fx", "fy", "cx", "cy")),
    2: ("SIMPLE_RADIAL", ("f", "cx", "cy", "k1")),
    3: ("RADIAL", ("f", "cx", "cy", "k1", "k2")),
    4: ("OPENCV", ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2")),
    6: ("FULL_OPENCV", ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")),
}
_FIELDS = dict(_MODELS.values())


class ColmapImage(NamedTuple):
    """A registered picture: its name, the number of its camera, and world-to-camera rotation and translation."""

    name: str
    camera: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]


class ColmapModel(NamedTuple):
    """Lenses and images by number; `points` are positions [n, 3], `tracks` pairs (image, point) that see each."""

    lenses: dict[int, Lens]
    images: dict[int, ColmapImage]
    points: np.ndarray
    tracks: np.ndarray

    def depth(self) -> float | None:
        """The median depth of points in the images that see them; None without points."""
        order = {number: row for row, number in enumerate(self.images)}
        pairs = [(order[int(image)], point) for image, point in self.tracks if int(image) in order]
        if not pairs:
            return None
        rows, points = np.array(pairs).T
        poses = self.camera_to_world()[rows].numpy()
        depths = ((self.points[points] - poses[:, :3, 3]) * poses[:, :3, 2]).sum(axis=1)
        seen = depths[depths > 0]
        return float(np.median(seen)) if len(seen) else None

    def camera_to_world(self) -> torch.Tensor:
        """Poses [n, 4, 4] of all images, OpenCV axes."""
        quaternions, translations = (
            torch.tensor([list(getattr(image, part)) for image in self.images.values()], dtype=torch.float64)
            for part in ("quaternion", "translation")
        )
        return colmap_to_opencv(quaternions, translations)


def find_colmap(root: Path) -> Path | None:
    """The folder of a model in a capture: the root itself or a usual place in it."""
    places = (root / "sparse" / "0", root / "sparse", root / "colmap" / "sparse" / "0", root)
    return next((place for place in places if _kind(place) is not None), None)


def _kind(folder: Path) -> str | None:
    kinds = (".bin", ".txt")
    return next((k for k in kinds if all((folder / f"{n}{k}").is_file() for n in ("cameras", "images"))), None)


def read_colmap(folder: Path) -> ColmapModel:
    """Read a model. Raises UserError if its files are damaged or hold cameras of another kind."""
    binary = _kind(folder) == ".bin"
    try:
        model = _read_binary(folder) if binary else _read_text(folder)
    except (OSError, ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise UserError(f"{folder} should hold a model of COLMAP: {type(error).__name__}: {error}") from None
    unknown = {image.camera for image in model.images.values()} - set(model.lenses)
    if not model.images or unknown:
        raise UserError(f"{folder}: a model of {len(model.images)} images, without the cameras {sorted(unknown)}")
    return model


def _lens(model: str, width: float, height: float, parameters: list[float]) -> Lens:
    if model not in _FIELDS:
        raise UserError(f"COLMAP cameras of the model {model} cannot be read, only {', '.join(_FIELDS)}")
    values = dict(zip(_FIELDS[model], parameters, strict=True))
    focal = values.pop("f", None)
    return Lens(width, height, **({} if focal is None else {"fx": focal, "fy": focal}), **values)


# --- text -------------------------------------------------------------------------------------------------


def _read_text(folder: Path) -> ColmapModel:
    lenses = {}
    for line in _lines(folder / "cameras.txt"):
        number, model, width, height, *parameters = line.split()
        lenses[int(number)] = _lens(model, float(width), float(height), [float(p) for p in parameters])
    images = {}
    # Two lines an image: the second, which may be empty, lists its points.
    for line in list(_lines(folder / "images.txt", keep_empty=True))[::2]:
        words = line.split(maxsplit=9)
        pose = [float(word) for word in words[1:8]]
        images[int(words[0])] = ColmapImage(words[9].strip(), int(words[8]), tuple(pose[:4]), tuple(pose[4:]))
    points, tracks = [], []
    path = folder / "points3D.txt"
    for index, line in enumerate(_lines(path) if path.is_file() else ()):
        words = line.split()
        points.append([float(word) for word in words[1:4]])
        tracks += [(int(image), index) for image in words[8::2]]
    return ColmapModel(lenses, images, _array(points, 3), _array(tracks, 2).astype(np.int64))


def _lines(path: Path, keep_empty: bool = False) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") and (keep_empty or line.strip()):
            yield line


def _array(rows: list, columns: int) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(-1, columns)


# --- binary -----------------------------------------------------------------------------------------------


def _read_binary(folder: Path) -> ColmapModel:
    lenses, images = {}, {}
    with (folder / "cameras.bin").open("rb") as file:
        for _ in range(_take(file, "Q")[0]):
            number, model, width, height = _take(file, "iiQQ")
            if model not in _MODELS:
                known = ", ".join(name for name, _ in _MODELS.values())
                raise UserError(f"{folder}: COLMAP cameras of model number {model} cannot be read, only {known}")
            name, fields = _MODELS[model]
            lenses[number] = _lens(name, float(width), float(height), list(_take(file, f"{len(fields)}d")))
    with (folder / "images.bin").open("rb") as file:
        for _ in range(_take(file, "Q")[0]):
            number, *pose, camera = _take(file, "i7di")
            name = _take_name(file)
            images[number] = ColmapImage(name, camera, tuple(pose[:4]), tuple(pose[4:]))
            file.seek(24 * _take(file, "Q")[0], 1)  # its points: two doubles and a number each
    points, tracks = [], []
    path = folder / "points3D.bin"
    if path.is_file():
        with path.open("rb") as file:
            for index in range(_take(file, "Q")[0]):
                points.append(_take(file, "Q3d3Bd")[1:4])
                length = _take(file, "Q")[0]
                tracks += [(image, index) for image in _take(file, f"{2 * length}i")[::2]]
    return ColmapModel(lenses, images, _array(points, 3), _array(tracks, 2).astype(np.int64))


def _take(file: BinaryIO, layout: str) -> tuple:
    size = struct.calcsize(f"<{layout}")
    return struct.unpack(f"<{layout}", file.read(size))


def _take_name(file: BinaryIO) -> str:
    name = bytearray()
    while (character := file.read(1)) != b"\0":
        if not character:
            raise ValueError("a name without an end")
        name += character
    return name.decode()
