"""Sources of images: folders (FFHQ's, ImageNet's), archives, a generator, a single file."""

import zipfile
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from datamodules.ffhq_gan.samples import ImageGenerator
from datamodules.image_files import UnreadableError, read_picture
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.images import centre_box, crop_and_resize, downsample, image_to_tensor

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class NamedImage(NamedTuple):
    """An image in [-1, 1], the number of its class (−1 for none) and its name."""

    image: Float[Tensor, "3 h w"]
    label: int
    name: str


class ImageSource(ABC):
    """Images by number, at a resolution."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, number: int, resolution: int) -> NamedImage:
        """Read the largest square in an image's middle, at a height and width.

        Raises:
            UnreadableError: there is no image.
        """


def classes_of(names: list[str]) -> dict[str, int]:
    """Number the folders that files are in, sorted by name; return none if all files share a folder."""
    folders = sorted({str(PurePosixPath(name).parent) for name in names})
    return {folder: number for number, folder in enumerate(folders)} if len(folders) > 1 else {}


def decoded(source: Path | bytes, name: str, resolution: int) -> Float[Tensor, "3 h w"]:
    """Decode the largest square in a picture's middle."""
    picture = read_picture(source, name)
    return image_to_tensor(crop_and_resize(picture, centre_box(*picture.size), resolution, resolution))


class FolderImages(ImageSource):
    """The pictures of a folder and its subfolders, sorted by name. The folder of a picture is its class.

    This reads FFHQ's layout (00000/00000.png) and ImageNet's (n01440764/….JPEG). FFHQ's folders are no meaningful
    classes, but a model without classes ignores them.

    Args:
        folder: where to look.

    Raises:
        UserError: there are no pictures.
    """

    def __init__(self, folder: str) -> None:
        root = Path(folder)
        found = (path for path in root.rglob("*") if path.suffix.lower() in ENDINGS)
        self.root = root
        self.names = sorted(path.relative_to(root).as_posix() for path in found if not path.name.startswith("."))
        if not self.names:
            raise UserError(f"{folder}: no such folder, or no pictures in it ({', '.join(ENDINGS)})")
        self.classes = classes_of(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, number: int, resolution: int) -> NamedImage:
        """See `ImageSource`."""
        name = self.names[number]
        label = self.classes.get(str(PurePosixPath(name).parent), -1)
        return NamedImage(decoded(self.root / name, str(self.root / name), resolution), label, _key(name))


class ZippedImages(ImageSource):
    """The pictures of a zip archive, found as `FolderImages` finds them in a folder.

    Args:
        archive: the file.

    Raises:
        UserError: the file is not an archive, or holds no pictures.
    """

    def __init__(self, archive: str) -> None:
        self.archive = archive
        try:
            with zipfile.ZipFile(archive) as opened:
                names = [name for name in opened.namelist() if PurePosixPath(name).suffix.lower() in ENDINGS]
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{archive} is not a readable zip archive ({error})") from error
        self.names = sorted(
            name for name in names if not PurePosixPath(name).name.startswith(".") and "__MACOSX" not in name
        )
        if not self.names:
            raise UserError(f"{archive}: no pictures in it ({', '.join(ENDINGS)})")
        self.classes = classes_of(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, number: int, resolution: int) -> NamedImage:
        """See `ImageSource`."""
        name = self.names[number]
        where = f"{self.archive}: {name}"
        try:
            # Reopened each time: workers that share an open file would read from several positions at once.
            with zipfile.ZipFile(self.archive) as opened:
                content = opened.read(name)
        except (OSError, zipfile.BadZipFile, RuntimeError, KeyError, EOFError) as error:
            raise UnreadableError(f"{where}: cannot be read ({error})") from error
        label = self.classes.get(str(PurePosixPath(name).parent), -1)
        return NamedImage(decoded(content, where, resolution), label, _key(name))


class DrawnImages(ImageSource):
    """Images of a generator, such as the drawn faces of the demo: the same seed gives the same image.

    Args:
        generator: draws images from seeds, e.g. `dfm_lightning.networks.stylegan2.sampling.GeneratorSamples`.
        number: number of images.
    """

    def __init__(self, generator: ImageGenerator, number: int = 8192) -> None:
        self.generator = generator
        self.number = number

    def __len__(self) -> int:
        return self.number

    @torch.no_grad()
    def read(self, number: int, resolution: int) -> NamedImage:
        """See `ImageSource`."""
        _, images = self.generator.draw([number], torch.device("cpu"))
        image = downsample(images, (resolution, resolution))[0].float().clamp(-1, 1)
        return NamedImage(image, -1, f"seed{number:07}")


class OwnImage(ImageSource):
    """One picture of the user's."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def __len__(self) -> int:
        return 1

    def read(self, number: int, resolution: int) -> NamedImage:
        """See `ImageSource`."""
        try:
            return NamedImage(decoded(self.path, str(self.path), resolution), -1, self.path.stem)
        except UnreadableError as error:
            raise UserError(str(error)) from error


def _key(name: str) -> str:
    """Turn a picture's name into a scene key: without its ending, folders joined."""
    return str(PurePosixPath(name).with_suffix("")).replace("/", "_")
