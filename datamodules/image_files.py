"""Pictures read from files that may be missing, cut short or something else."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageOps


class UnreadableError(Exception):
    """Something in a data set cannot be used; the message says what, where and why, in one line.

    Data sets go on without it, and `dfm data verify` lists it.
    """


@contextmanager
def open_picture(source: Path | bytes, name: str) -> Iterator[Image.Image]:
    """A picture that has not been decoded yet, to be decoded within the block. EXIF orientation is not applied.

    Args:
        source: a file, or an encoded picture.
        name: what to call it in an error.

    Raises:
        UnreadableError: where there is no picture, or only part of one.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            yield image
    except FileNotFoundError:
        raise UnreadableError(f"{name}: no such file") from None
    # Pillow raises all of these for damaged files, depending on where the damage is.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableError(f"{name}: not a readable picture ({error})") from None


def read_picture(source: Path | bytes, name: str) -> Image.Image:
    """A picture, decoded completely, as RGB; like `open_picture`."""
    with open_picture(source, name) as image:
        return image.convert("RGB")


def read_upright_picture(source: Path | bytes, name: str) -> Image.Image:
    """Like `read_picture`, and turned as its EXIF orientation says."""
    with open_picture(source, name) as image:
        return ImageOps.exif_transpose(image).convert("RGB")
