"""The decoder of every data module against OpenCV, closed forms and Pillow's own reading of EXIF."""

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from datamodules.image_files import MOST_PIXELS, UnreadableError, open_picture, orientation, read_picture

RAMP = np.linspace(0, 1, 256)[None].repeat(64, axis=0)
NOISE = np.random.default_rng(0).integers(0, 256, (17, 23, 4), dtype=np.uint8)


def shown(path: Path | bytes) -> np.ndarray:
    picture = read_picture(path, "picture")
    assert picture.mode == "RGB"
    return np.asarray(picture)


def cv_rgb(path: Path) -> np.ndarray:
    """The picture in RGB by OpenCV, which scales depths and turns as EXIF says, but ignores transparency."""
    return cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("grey.png", (RAMP * 65535).astype(np.uint16)),
        ("grey.tif", (RAMP * 65535).astype(np.uint16)),
        ("grey.jp2", (RAMP * 65535).astype(np.uint16)),
        ("grey.pgm", (RAMP * 65535).astype(np.uint16)),
        ("colour.png", np.stack([RAMP, RAMP[:, ::-1], RAMP**2], axis=-1).__mul__(65535).astype(np.uint16)),
    ],
)
def test_sixteen_bits_are_scaled_as_opencv_scales_them(name: str, values: np.ndarray, tmp_path: Path) -> None:
    """A grey ramp stays a ramp: Pillow's own conversion clips it to white."""
    cv2.imwrite(str(tmp_path / name), values, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    difference = shown(tmp_path / name).astype(int) - cv_rgb(tmp_path / name)
    assert np.abs(difference).max() <= 1  # OpenCV drops the lower byte, without rounding


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (RAMP.astype(np.float32), "TIFF"),
        ((RAMP * 255).astype(np.float32), "TIFF"),
        ((RAMP * 65535).astype(np.int32), "TIFF"),
        ((RAMP * (2**31 - 1)).astype(np.int32), "TIFF"),
        ((RAMP * 65535).astype(np.uint16), "TIFF"),
    ],
)
def test_wide_grey_is_a_ramp(values: np.ndarray, form: str) -> None:
    top = values.max()
    expected = np.round(values / top * 255)
    assert np.abs(shown(encoded(Image.fromarray(values), form)) - expected[..., None]).max() <= 3


@pytest.mark.parametrize(("bits", "kind", "white"), [(32, 1, 2**32 - 1), (16, 2, 2**15 - 1)])
def test_unsigned_32_and_signed_16_bits(bits: int, kind: int, white: int, tmp_path: Path) -> None:
    values = (RAMP * white).astype(np.uint32 if kind == 1 else np.int16)
    body = values.tobytes()
    entries = [
        (256, 3, 1, 256), (257, 3, 1, 64), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
        (277, 3, 1, 1), (278, 3, 1, 64), (279, 4, 1, len(body)), (339, 3, 1, kind),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    data = b"II*\0" + struct.pack("<L", 8 + len(body)) + body + directory + b"\0\0\0\0"
    assert np.abs(shown(data)[..., 0] - np.round(RAMP * 255)).max() <= 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
def test_floats_that_mean_nothing_are_refused(bad: float) -> None:
    values = RAMP.astype(np.float32)
    values[0, 0] = bad
    with pytest.raises(UnreadableError, match="picture"):
        shown(encoded(Image.fromarray(values), "TIFF"))


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_transparent_pixels_show_white(form: str) -> None:
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    found = shown(encoded(Image.fromarray(NOISE), form, **options))
    assert np.abs(found - over_white(NOISE[..., :3].astype(float), NOISE[..., 3])).max() <= 1


def test_transparency_of_grey_palettes_and_single_colours() -> None:
    grey = Image.fromarray(np.ascontiguousarray(NOISE[..., 2:]))
    assert grey.mode == "LA"
    expected = over_white(NOISE[..., 2:3].repeat(3, axis=2).astype(float), NOISE[..., 3])
    assert np.abs(shown(encoded(grey, "PNG")) - expected).max() <= 1

    palette = Image.fromarray(NOISE[..., 0] % 4, "P")
    palette.putpalette([255, 0, 255, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    colours = np.array([[255, 255, 255], [127.5, 255, 127.5], [0, 0, 255], [9, 9, 9]])
    found = shown(encoded(palette, "PNG", transparency=bytes([0, 128, 255, 255])))
    assert np.abs(found - colours[NOISE[..., 0] % 4]).max() <= 1

    for values, key in (
        (NOISE[..., 0].copy(), int(NOISE[3, 4, 0])),
        (NOISE[..., :3].copy(), tuple(NOISE[3, 4, :3].tolist())),
        (NOISE[..., 0].astype(np.uint16) * 257, int(NOISE[3, 4, 0]) * 257),
    ):
        assert (shown(encoded(Image.fromarray(values), "PNG", transparency=key))[3, 4] == 255).all()


def test_colours_of_print_are_those_of_opencv(tmp_path: Path) -> None:
    """CMYK, as print shops and Photoshop write it."""
    smooth = cv2.resize(NOISE, (64, 64), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(smooth, "CMYK").save(tmp_path / "print.jpg", quality=98)
    assert np.abs(shown(tmp_path / "print.jpg").astype(int) - cv_rgb(tmp_path / "print.jpg")).max() <= 4


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    picture = Image.fromarray(NOISE[..., :3].copy()).convert(mode)
    assert (shown(encoded(picture, "TIFF")) == np.asarray(picture.convert("RGB"))).all()


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_stand_upright(number: int, form: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = number
    smooth = cv2.resize(NOISE[..., :3].copy(), (48, 32), interpolation=cv2.INTER_CUBIC)
    path = tmp_path / f"picture.{form.lower()}"
    Image.fromarray(smooth).save(path, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    found = shown(path)
    assert (found == np.asarray(ImageOps.exif_transpose(Image.open(path)))).all()
    if form == "JPEG":
        assert np.abs(found.astype(int) - cv_rgb(path)).max() <= 2
    # Nothing is left to be turned a second time.
    assert orientation(read_picture(path, "picture")) == 1


def odd_exif(order: str, entries: list[tuple[int, int, int, int]]) -> bytes:
    """EXIF data with entries (tag, type, count, value or place) that no reader need understand."""
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}LH", 8, len(entries))
    packed = [
        struct.pack(f"{order}HHLHH", tag, kind, count, value, 0)
        if kind == 3
        else struct.pack(f"{order}HHLL", tag, kind, count, value)
        for tag, kind, count, value in entries
    ]
    return b"Exif\0\0" + header + b"".join(packed) + b"\0\0\0\0"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "entry",
    [
        (0x010F, 2, 10**6, 10**6),  # a maker's name outside the data
        (0x011A, 5, 1, 2**32 - 1),  # a density whose fraction is nowhere
        (0x0132, 99, 7, 7),  # a type that there is not
        (0x8769, 4, 1, 2**31),  # further data outside
        (0x8769, 4, 1, 8),  # further data that are these same
        (0x8825, 13, 5, 3),
    ],
)
def test_odd_exif_data_do_not_matter(order: str, entry: tuple[int, int, int, int]) -> None:
    smooth = Image.fromarray(cv2.resize(NOISE[..., :3].copy(), (48, 32)))
    exif = odd_exif(order, sorted([entry, (0x0112, 3, 1, 6)]))
    for form in ("JPEG", "PNG", "WEBP"):
        assert read_picture(encoded(smooth, form, exif=exif), form).size == (32, 48), form


def test_nothing_is_said_about_exif_data(tmp_path: Path) -> None:
    """In a process of its own: within a test the filters of warnings are not those of a program."""
    exif = odd_exif(">", [(0x010F, 2, 10**6, 10**6), (0x0112, 3, 1, 6)])
    Image.new("RGB", (4, 3)).save(tmp_path / "odd.jpg", exif=exif)
    code = "import pathlib, datamodules.image_files as i; print(i.read_picture(pathlib.Path('odd.jpg'), '').size)"
    python = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (python.stdout, python.stderr) == ("(3, 4)\n", "")


@pytest.mark.parametrize("cut", [0, 5, 6, 10, 14, 16, 20])
def test_exif_data_cut_short(cut: int) -> None:
    exif = odd_exif("<", [(0x0112, 3, 1, 6)])[:cut]
    picture = Image.new("RGB", (4, 3))
    picture.info["exif"] = exif
    assert orientation(picture) == 1


@pytest.mark.parametrize("number", [0, 9, 65535])
def test_orientations_that_there_are_not(number: int) -> None:
    data = encoded(Image.new("RGB", (4, 3)), "JPEG", exif=odd_exif("<", [(0x0112, 3, 1, number)]))
    assert read_picture(data, "picture").size == (4, 3)


def test_tiff_with_odd_tags(tmp_path: Path) -> None:
    """Pillow reads further tags while it decodes this format, and fails on odd ones."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encoded(Image.fromarray(NOISE[..., :3].copy()), "TIFF", exif=exif)
    for tag in (0x8769, 0x8825, 0xA005):
        (start,) = struct.unpack_from("<L", data, 4)
        (count,) = struct.unpack_from("<H", data, start)
        table = data[start + 2 : start + 2 + 12 * count] + struct.pack("<HHLL", tag, 4, 1, 2**31)
        odd = data[:4] + struct.pack("<L", len(data)) + data[8:] + struct.pack("<H", count + 1) + table + b"\0" * 4
        assert (shown(odd) == np.rot90(NOISE[..., :3], -1)).all()


def test_photographs_of_108_megapixels_are_read_without_a_word() -> None:
    """And one of 200 is opened: what there is to say about larger ones is said in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_picture(encoded(Image.new("L", (12000, 9000)), "PNG", compress_level=1), "p").size[0] == 12000
        with open_picture(empty_png(16320, 12240), "picture") as picture:
            assert picture.size == (16320, 12240)
        with pytest.raises(UnreadableError, match=r"picture.*100000×100000"):
            shown(empty_png(100_000, 100_000))
        assert MOST_PIXELS < 100_000**2


def empty_png(width: int, height: int) -> bytes:
    """A PNG of which there is hardly more than its size."""
    chunks = [(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    packed = [
        struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))
        for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def refusal(data: bytes) -> str:
    """What an error says about a picture, or its size."""
    try:
        return f"picture: {shown(data).shape}"
    except UnreadableError as error:
        return str(error)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000"])
def test_damaged_pictures_are_refused_or_read(form: str) -> None:
    """Cut short and with bytes overwritten: an UnreadableError with one line, or a picture; nothing else."""
    exif = {"exif": odd_exif(">", [(0x0112, 3, 1, 3)])} if form in ("JPEG", "PNG", "WEBP") else {}
    data = encoded(Image.fromarray(NOISE[..., :3].copy()), form, **exif)
    random = np.random.default_rng(1)
    for part in range(60):
        broken = bytearray(data[: len(data) * part // 30] if part < 30 else data)
        if part >= 30:
            for place in random.integers(0, len(data), 4):
                broken[place] = random.integers(0, 256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            message = refusal(bytes(broken))
        assert message.startswith("picture: ")
        assert "\n" not in message


def test_text_around_a_picture_does_not_matter() -> None:
    comments = PngImagePlugin.PngInfo()
    comments.add_text("Raw profile type exif", "not hexadecimal")
    assert shown(encoded(Image.new("RGB", (4, 3)), "PNG", pnginfo=comments)).shape == (3, 4, 3)
