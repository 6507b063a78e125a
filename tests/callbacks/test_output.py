"""Pictures, videos and pages say what they were given."""

from html.parser import HTMLParser
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from dfm_lightning.callbacks.output import (
    Picture,
    Section,
    Video,
    colour_map,
    image_to_uint8,
    labelled_grid,
    side_by_side,
    write_page,
    write_png,
    write_video,
)


def test_bytes_of_an_image() -> None:
    image = torch.tensor([-2.0, -1.0, 0.0, 1.0]).view(1, 2, 2).expand(3, 2, 2)
    np.testing.assert_array_equal(image_to_uint8(image)[..., 0], [[0, 0], [128, 255]])
    assert image_to_uint8(image[:1]).shape == (2, 2, 3)


def test_colour_map_ends_and_order() -> None:
    coloured = colour_map(torch.tensor([[-1.0, 0.0, 0.5, 1.0, 2.0]]), 0.0, 1.0, "gray")
    np.testing.assert_array_equal(coloured[0, :, 0], [0, 0, 128, 255, 255])


def test_png_keeps_sixteen_bits(tmp_path: Path) -> None:
    values = np.array([[0, 1, 256], [40000, 65534, 65535]], np.uint16)
    write_png(tmp_path / "depth.png", values)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "depth.png")), values)


def test_grid_places_each_image_in_its_cell() -> None:
    red, blue = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    sheet = labelled_grid([[red, None], [None, blue]], ["first", "second"], ["a", "b"], cell=8)
    for colour, (low, high) in {(255, 0, 0): ("min", "min"), (0, 0, 255): ("max", "max")}.items():
        ys, xs = np.nonzero((sheet == colour).all(axis=2))
        assert len(ys) == 64, "each pixel is repeated 2 × 2 times"
        assert (ys < sheet.shape[0] / 2 + 8).all() == (low == "min")
        assert (xs < 90 + 12).all() == (high == "min")
    assert (sheet[:18] < 128).any(), "labels above"


def test_side_by_side_has_a_margin_between() -> None:
    row = side_by_side([np.zeros((3, 5, 3), np.uint8)] * 3)
    assert row.shape == (3, 3 * 5 + 2 * 4, 3)
    assert (row[:, 5:9] == 255).all()


def test_video_keeps_frames_rate_and_bytes(tmp_path: Path) -> None:
    levels = [30, 120, 220]
    frames = np.stack([np.full((31, 45, 3), level, np.uint8) for level in levels])
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, frames, frame_rate=5)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    reader = imageio.get_reader(tmp_path / "a.mp4")
    assert reader.get_meta_data()["fps"] == 5
    read = [np.asarray(frame) for frame in reader.iter_data()]
    assert [round(frame.mean()) for frame in read] == pytest.approx(levels, abs=3)
    assert read[0].shape == (280, 406, 3), "31×45 enlarged 9 times, 279 and 405 made even"


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]


def test_page_links_are_relative_and_text_is_escaped(tmp_path: Path) -> None:
    figures = [Picture(Path("a b/x.png"), "<one>"), Video(Path("v.mp4"), "two")]
    table = [["scene", "PSNR"], ["<b>", "20.1"]]
    write_page(tmp_path / "index.html", "Title", [Section("<script>", "text", figures, table)])
    text = (tmp_path / "index.html").read_text()
    links = Links()
    links.feed(text)
    assert links.links == ["a%20b/x.png", "a%20b/x.png", "v.mp4"]
    assert "<script>" not in text
    assert "<b>" not in text
    assert "20.1" in text
