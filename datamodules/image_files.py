"""The picture decoder of every data module, for files that may be missing, truncated or not pictures at all."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.folders import as_spelt

# Larger pictures are refused. Photographs of 200 megapixels still pass; decoded, a picture at the limit takes 1.5
# GB.
MOST_PIXELS = 512 * 10**6
# Pillow's own limit prints a warning for photographs of 90 megapixels; `open_picture` applies the one above.
Image.MAX_IMAGE_PIXELS = None
# Faults in EXIF data (Pillow reads them as TIFF tags) do not affect the picture.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")

# Pillow raises all of these for damaged files, depending on where the damage is.
_FAULTS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError,
    MemoryError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip

_ORIENTATION = 0x0112
_UNSIGNED_16_BITS = 3
# The transposition that turns a picture upright, by EXIF's orientation number.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_KEYS = ("exif", "Raw profile type exif")

# Candidates for the value of white where the format does not state it, and how far floats may exceed it
# (resampling overshoots).
_RANGES = (1.0, 255.0, 65535.0)
_EXCESS = 1.5
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2


class UnreadableError(Exception):
    """Part of a data set cannot be used; the message says which, where and why, in one line.

    Data sets skip such parts, and `dfm data verify` lists them.
    """


@contextmanager
def open_picture(source: Path | bytes, name: str) -> Iterator[Image.Image]:
    """Open a picture without decoding it; decode it within the block.

    Apply `upright` and `to_rgb` to get what a viewer shows.

    Args:
        source: a file, whose ending (.jpg) may be spelt in another case, or an encoded picture.
        name: name of the picture in errors.

    Raises:
        UnreadableError: the picture is missing, truncated, or larger than `MOST_PIXELS`.
    """
    if isinstance(source, Path) and not source.exists():
        source = as_spelt(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UnreadableError(
                    f"{name}: {image.width}×{image.height} pixels are too many (at most {MOST_PIXELS:,} are read)"
                )
            yield image
    except FileNotFoundError:
        raise UnreadableError(f"{name}: no such file") from None
    except _FAULTS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(f"{name}: not a readable picture ({reason})") from None


def read_picture(source: Path | bytes, name: str) -> Image.Image:
    """Decode a picture as a viewer shows it, in RGB and upright; otherwise like `open_picture`."""
    with open_picture(source, name) as image:
        shown = to_rgb(upright(image))
        shown.load()
        return shown


def to_rgb(picture: Image.Image) -> Image.Image:
    """Convert a picture to 8-bit RGB as a viewer shows it; return RGB pictures unchanged.

    Transparent pixels show white. Grey of 9 to 16 bits is scaled by its depth. Wider numbers (32-bit integers,
    floats) do not state their range: it is taken to be the smallest that holds the picture, of [0, 1] (floats
    only), [0, 255], [0, 65535] and the type's own.

    Raises:
        ValueError: floats lie outside all of these ranges, or Pillow cannot convert the colours.
    """
    _decode_tiff(picture)
    if picture.mode[0] in "IF":
        return Image.fromarray(_grey(picture)).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _grey(picture: Image.Image) -> np.ndarray:
    """Convert a one-channel picture of more than 8 bits to 8 bits [h w]."""
    values = np.asarray(picture)
    tags = getattr(picture, "tag_v2", {})
    bits = _first(tags.get(_BITS_PER_SAMPLE, 16))
    signed = _first(tags.get(_SAMPLE_FORMAT, 1)) == _SIGNED
    if values.dtype == np.int32 and bits == 32 and not signed:
        values = values.view(np.uint32)
    white = _white(values) if values.dtype.kind == "f" or bits > 16 else 2 ** (bits - signed) - 1
    share = values.astype(np.float32) / np.float32(white)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        share = 1 - share
    grey = (share.clip(0, 1) * 255).round().astype(np.uint8)
    if "transparency" in picture.info:
        grey[values == picture.info["transparency"]] = 255
    return grey


def _white(values: np.ndarray) -> float:
    """Guess the value of white for numbers that do not state their range."""
    largest = float(values.max())
    if values.dtype.kind != "f":
        return next((white for white in _RANGES[1:] if largest <= white), float(np.iinfo(values.dtype).max))
    if not np.isfinite(values).all():
        raise ValueError("some of its values are not finite")
    fitting = [white for white in _RANGES if largest <= white * _EXCESS]
    if not fitting:
        raise ValueError(f"its values reach {largest:g}, but at most 1, 255 or 65535 is expected")
    return fitting[0]


def _first(value: int | tuple[int, ...]) -> int:
    return value[0] if isinstance(value, tuple) else value


def upright(picture: Image.Image) -> Image.Image:
    """Turn the picture as its EXIF orientation says; return it unchanged if no turn is needed."""
    turn = _TURNS.get(orientation(picture))
    if turn is None:
        return picture
    turned = picture.transpose(turn)
    for key in _EXIF_KEYS:
        turned.info.pop(key, None)
    return turned


def orientation(picture: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8, that the picture must still be turned by; 1 if there is no valid one.

    Other EXIF data are not read: they may be damaged or odd.
    """
    if picture.format == "TIFF":
        # Pillow turns the pictures of this format when it decodes them, and removes the tag.
        _decode_tiff(picture)
        # (An attribute of Pillow's class for this format.)
        number = picture.tag_v2.get(_ORIENTATION)  # type: ignore[attr-defined]
    else:
        number = _exif_orientation(_exif_bytes(picture))
    return number if number in _TURNS else 1


def _decode_tiff(picture: Image.Image) -> None:
    if picture.format != "TIFF":
        return
    try:
        picture.load()
    except _FAULTS:
        # If no tile is left to decode, the failure was in reading further tags. (Pillow's class for files has this
        # attribute; its class for pictures does not.)
        if picture.tile:  # type: ignore[attr-defined]
            raise


def _exif_bytes(picture: Image.Image) -> bytes:
    raw = picture.info.get("exif", b"")
    if not raw and "Raw profile type exif" in picture.info:  # ImageMagick's, in PNG: hexadecimal below a header
        try:
            raw = bytes.fromhex("".join(picture.info["Raw profile type exif"].split("\n")[3:]))
        except (AttributeError, ValueError):
            return b""
    return raw if isinstance(raw, bytes) else b""


def _exif_orientation(exif: bytes) -> int:
    """Find the orientation in EXIF data: a TIFF header, then entries of 12 bytes (tag, type, count, value)."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None:
            return 1
        (start,) = struct.unpack_from(f"{order}L", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(entries):
            tag, kind, _, value = struct.unpack_from(f"{order}HHLH", exif, start + 2 + 12 * entry)
            if tag == _ORIENTATION and kind == _UNSIGNED_16_BITS:
                return value
    except struct.error:  # cut short
        pass
    return 1
