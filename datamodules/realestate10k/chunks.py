"""The chunked form (pixelSplat's): .torch files of some scenes each, and an index of which scene is where."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from datamodules.image_files import UnreadableError, read_picture
from datamodules.realestate10k.camera_files import CameraPath
from datamodules.scenes import Scene, SceneReader
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file

INDEX_FILE = "index.json"

# Open chunks hold the places of their pictures in memory, not the pictures: these stay on disk until asked for.
OPEN_CHUNKS = 8


class EncodedScene(NamedTuple):
    """A scene as a chunk holds it: `images` are encoded pictures (JPEG), one for each camera."""

    key: str
    cameras: CameraPath
    images: list[bytes]


class ChunkedScene(Scene):
    """A scene out of a chunk; its pictures are decoded when they are asked for."""

    def __init__(self, key: str, chunk: Path, example: dict[str, Any]) -> None:
        self._name = f"{key} in {chunk}"
        try:
            timestamps, numbers, self._images = (example[name] for name in ("timestamps", "cameras", "images"))
            path = CameraPath(str(example.get("url", "")), timestamps.long(), numbers.double())
            sizes = (len(timestamps), *numbers.shape)
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise UnreadableError(f"{self._name}: not a scene ({type(error).__name__}: {error})") from None
        if sizes != (len(timestamps), len(timestamps), 18) or not len(timestamps):
            raise UnreadableError(f"{self._name}: expected [N] timestamps and [N, 18] cameras, got {sizes}")
        super().__init__(key, *path.cameras())

    def has_frame(self, position: int) -> bool:
        return position < len(self._images)

    def frame(self, position: int) -> Image.Image:
        if not self.has_frame(position):
            raise UnreadableError(f"frame {position} of {self._name}: only {len(self._images)} pictures")
        return read_picture(self._images[position].numpy().tobytes(), f"frame {position} of {self._name}")


class ChunkReader(SceneReader):
    """The scenes of `<root>/<split>/*.torch`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._chunk_of: dict[str, str] = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{folder / INDEX_FILE} should say which chunk each scene is in: {error}") from None
        self._keys = sorted(self._chunk_of)
        chunks = sorted(set(self._chunk_of.values()))
        self._number_of = {chunk: number for number, chunk in enumerate(chunks)}
        self.description = f"{len(self._keys)} scenes in {len(chunks)} chunks (.torch)"
        self._open = lru_cache(maxsize=OPEN_CHUNKS)(load_chunk)

    def keys(self) -> list[str]:
        return self._keys

    def containers(self) -> list[int] | None:
        return [self._number_of[self._chunk_of[key]] for key in self._keys]

    def scene(self, key: str) -> Scene:
        path = self._folder / self._chunk_of[key]
        chunk = self._open(path)
        if key not in chunk:
            raise UnreadableError(f"{path}: scene {key} is not in it, though {INDEX_FILE} says so")
        return ChunkedScene(key, path, chunk[key])


def load_chunk(path: Path) -> dict[str, dict[str, Any]]:
    """The scenes of a chunk by key. The pictures stay on disk.

    Raises:
        UnreadableError: if it is missing, cut short, or something else.
    """
    try:
        examples = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return {str(example["key"]): example for example in examples}
    # What torch raises for a damaged file depends on the damage; all of it is the file's fault.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnreadableError(f"{path}: not a readable chunk ({reason})") from None


def write_chunk(path: Path, scenes: list[EncodedScene]) -> None:
    """Write a whole chunk."""
    examples = [
        {
            "url": scene.cameras.url,
            "key": scene.key,
            "timestamps": scene.cameras.timestamps,
            "cameras": scene.cameras.numbers.float(),
            # A tensor of its own for each picture, so that each can be read without the others.
            "images": [torch.frombuffer(bytearray(image), dtype=torch.uint8) for image in scene.images],
        }
        for scene in scenes
    ]
    with whole_file(path) as aside:
        torch.save(examples, aside)
