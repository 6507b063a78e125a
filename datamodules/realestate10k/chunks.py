"""The chunked form (pixelSplat's): .torch files of several scenes each, and an index from scenes to files."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from datamodules.image_files import UnreadableError, read_picture
from datamodules.json_files import read_json
from datamodules.last_used import LastUsed
from datamodules.posed.camera_files import CameraPath
from datamodules.posed.scenes import Scene, SceneReader
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file
from dfm_lightning.wording import counted

INDEX_FILE = "index.json"
_EXPECTED = (
    "expected a dictionary of key, timestamps [N] (integers), cameras [N, 18] and images, a list of N encoded "
    "pictures, each a tensor of bytes (uint8)"
)

# Open chunks hold the locations of their pictures in memory; the pictures stay on disk until needed.
OPEN_CHUNKS = 8


class EncodedScene(NamedTuple):
    """A scene as stored in a chunk: `images` are encoded pictures (JPEG), one for each camera."""

    key: str
    cameras: CameraPath
    images: list[bytes]


class ChunkedScene(Scene):
    """A scene from a chunk; its pictures are decoded on demand."""

    def __init__(self, key: str, chunk: Path, example: dict[str, Any]) -> None:
        self._name = f"{key} in {chunk}"
        wrong = _what_is_wrong(example)
        if wrong is not None:
            raise UnreadableError(f"{self._name}: {_EXPECTED}, but {wrong}")
        self._images = example["images"]
        path = CameraPath(str(example.get("url", "")), example["timestamps"].long(), example["cameras"].double())
        super().__init__(key, *path.cameras())
        self.frame_names = tuple(map(str, path.timestamps.tolist()))

    def has_frame(self, position: int) -> bool:
        return position < len(self._images)

    def frame(self, position: int) -> Image.Image:
        if not self.has_frame(position):
            raise UnreadableError(
                f"frame {position} of {self._name}: there are only {counted(len(self._images), 'picture')}"
            )
        return read_picture(self._images[position].numpy().tobytes(), f"frame {position} of {self._name}")


def _what_is_wrong(example: dict[str, Any]) -> str | None:
    """Return why a scene cannot be used; None if it can. There may be fewer pictures than cameras."""
    lacks = [name for name in ("timestamps", "cameras", "images") if name not in example]
    if lacks:
        return f"there is no {lacks[0]}"
    timestamps, cameras, images = (example[name] for name in ("timestamps", "cameras", "images"))
    if not isinstance(timestamps, Tensor) or timestamps.ndim != 1 or not len(timestamps):
        return f"timestamps is {_in_words(timestamps)}"
    if timestamps.is_complex() or not timestamps.double().isfinite().all():
        return f"timestamps is {_in_words(timestamps)}, not all of it finite numbers"
    if not isinstance(cameras, Tensor) or cameras.shape != (len(timestamps), 18) or cameras.is_complex():
        return f"cameras is {_in_words(cameras)}, of {len(timestamps)} timestamps"
    if not isinstance(images, list | tuple):
        return f"images is {_in_words(images)}"
    for position, image in enumerate(images):
        if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 1:
            return f"number {position} of images is {_in_words(image)}"
    return None


def _in_words(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"of type {type(value).__name__}"


class ChunkReader(SceneReader):
    """The scenes of `<root>/<split>/*.torch`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._chunk_of = _read_index(folder / INDEX_FILE)
        self._keys = sorted(self._chunk_of)
        chunks = sorted(set(self._chunk_of.values()))
        self._number_of = {chunk: number for number, chunk in enumerate(chunks)}
        self.description = f"{counted(len(self._keys), 'scene')} in {counted(len(chunks), 'chunk')} (.torch)"
        self._open = LastUsed(load_chunk, OPEN_CHUNKS)

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


def _read_index(path: Path) -> dict[str, str]:
    """Read the chunk file of each scene."""
    try:
        content = read_json(path)
        if not isinstance(content, dict) or not all(isinstance(chunk, str) for chunk in content.values()):
            raise ValueError("its content is of another type")
    except FileNotFoundError:
        raise UserError(f"{path} should name the chunk of each scene, but there is no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f'{path} should name the chunk of each scene, {{"scene": "file"}}: {error}') from None
    return content


def load_chunk(path: Path) -> dict[str, dict[str, Any]]:
    """Load the scenes of a chunk by key. The pictures stay on disk.

    Raises:
        UnreadableError: the file is missing, truncated, or no chunk.
    """
    try:
        examples = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise UnreadableError(f"{path}: no such file") from None
    # The error that torch raises for a damaged file depends on the damage; the file is at fault in every case.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnreadableError(
            f"{path}: not a readable chunk of tensors, as torch.save writes it ({reason})"
        ) from None
    if not isinstance(examples, list | tuple):
        raise UnreadableError(f"{path}: expected a list of scenes, got {_in_words(examples)}")
    for number, example in enumerate(examples):
        if not isinstance(example, dict) or "key" not in example:
            what = "it has no key" if isinstance(example, dict) else f"it is {_in_words(example)}"
            raise UnreadableError(f"{path}, scene {number}: {_EXPECTED}, but {what}")
    return {str(example["key"]): example for example in examples}


def write_chunk(path: Path, scenes: list[EncodedScene]) -> None:
    """Write a chunk as a whole."""
    examples = [
        {
            "url": scene.cameras.url,
            "key": scene.key,
            "timestamps": scene.cameras.timestamps,
            "cameras": scene.cameras.numbers.float(),
            # One tensor for each picture, so that each can be read without the others.
            "images": [torch.frombuffer(bytearray(image), dtype=torch.uint8) for image in scene.images],
        }
        for scene in scenes
    ]
    with whole_file(path) as aside:
        torch.save(examples, aside)
