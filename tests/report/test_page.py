"""The page holds what it shows and nothing else, is the same every time, and keeps to its size."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from folders import SIZE, noise, scene_layers, write_fit, write_prediction, write_test
from PIL import Image

from dfm_lightning.callbacks import MotionReport
from dfm_lightning.callbacks.look_scores import compare_looks
from dfm_lightning.callbacks.output import write_video
from dfm_lightning.callbacks.output.layers import Layer, Layers, write_layers
from dfm_lightning.cli import main
from dfm_lightning.report import report_runs
from dfm_lightning.report.curves import sampler_charts, training_charts
from dfm_lightning.report.folders import read_runs
from dfm_lightning.report.page import notices_of
from dfm_lightning.report.runs import Run
from dfm_lightning.report.scene_cards import cards_of
from dfm_lightning.report.scene_pictures import pictures_of, videos_of
from dfm_lightning.report.truth import truth_charts
from dfm_lightning.sampling.scoring import score_draws
from dfm_lightning.types import LookLaw

GOOD = {f"s{number}": 20.0 + number for number in range(6)}


class Page(HTMLParser):
    """Tags without an end, links, and the ids of a page."""

    EMPTY = frozenset({"meta", "link", "input", "img", "line", "rect", "circle", "polyline", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.canvases: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.links += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action")]
        self.ids += [value or "" for name, value in attributes if name == "id"]
        if tag == "canvas":
            self.canvases.append(found)
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


def data_of(text: str) -> dict[str, Any]:
    return json.loads(re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)[0])


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    write_test(tmp_path / "good", GOOD)
    write_test(tmp_path / "bad <b>", {key: value - 2 for key, value in GOOD.items()}, **{"sampler.steps": 2})
    write_prediction(tmp_path / "predict", ["s0", "new"])
    write_video(tmp_path / "predict" / "s0" / "sample_01" / "video.mp4", noise(0, 3), 5)
    write_fit(tmp_path / "fit", [3.0, 2.0, 1.0], max_steps=30)
    return [tmp_path / name for name in ("good", "bad <b>", "predict", "fit")]


def test_the_page_is_whole_and_asks_for_nothing(folders: list[Path], tmp_path: Path) -> None:
    report_runs(folders, tmp_path / "page.html", title="A & B")
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert page.open == []
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))
    assert len(set(page.ids)) == len(page.ids)
    assert "<title>A &amp; B</title>" in text
    assert "bad <b>" not in text.replace("\\u003cb\\u003e", "")
    assert all(canvas["aria-label"] for canvas in page.canvases)


def test_pictures_stand_above_tables_on_demand(folders: list[Path], tmp_path: Path) -> None:
    pages = {}
    for first in (False, True):
        report_runs(folders, tmp_path / "page.html", scenes=2, pictures_first=first)
        text = (tmp_path / "page.html").read_text()
        # What readers must know comes before both.
        assert text.index('class="notices"') < min(text.index('id="runs"'), text.index('id="scenes"'))
        pages[first] = Page(text)
    parts = ("runs", "scores-1", "training", "scenes")
    orders = {first: [name for name in page.ids if name in parts] for first, page in pages.items()}
    assert orders == {False: list(parts), True: ["scenes", *parts[:3]]}
    # The links at the top have the order of the parts.
    for first, page in pages.items():
        assert [link[1:] for link in page.links if link[1:] in parts] == orders[first]
    assert sorted(pages[True].ids) == sorted(pages[False].ids)


def test_the_same_folders_give_the_same_bytes_wherever_they_are(folders: list[Path], tmp_path: Path) -> None:
    report_runs(folders, tmp_path / "1.html")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = [folder.rename(elsewhere / folder.name) for folder in folders]
    report_runs(moved, tmp_path / "2.html")
    assert (tmp_path / "1.html").read_bytes() == (tmp_path / "2.html").read_bytes()


def test_pictures_are_those_of_the_runs(folders: list[Path], tmp_path: Path) -> None:
    report_runs(folders, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    page, data = Page(text), data_of(text)

    def shown(alt: str, view: int) -> np.ndarray:
        (canvas,) = (each for each in page.canvases if each.get("data-alt") == alt)
        uri = data["sheets"][canvas["data-sheet"]]
        sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))
        top = int(canvas["data-top"] or 0)
        return sheet[top : top + SIZE, view * SIZE : (view + 1) * SIZE]

    np.testing.assert_array_equal(shown("true of s1", 1), noise(1, 2)[1])
    by_name = {(layer.name, layer.sample): layer.images for layer in scene_layers(1, GOOD["s1"] - 2).layers}
    np.testing.assert_array_equal(shown("sample 2 of s1 by bad <b>", 0), by_name["sample", 2][0])
    np.testing.assert_array_equal(shown("sample 1 of s0 by predict", 0), noise(100, 1)[0])
    alts = [canvas["data-alt"] for canvas in page.canvases if canvas.get("data-alt")]
    assert alts.count("context of s0") == 1, "what is given is shown once for all runs"
    assert len(data["videos"]) == 1
    scores = [row["target psnr_mean"] for card in data["scores"] for row in card if row]
    assert sorted(scores) == sorted([*GOOD.values(), *(value - 2 for value in GOOD.values())])


def test_what_samples_look_like_is_played_side_by_side_before_their_depth(tmp_path: Path) -> None:
    paths = [tmp_path / f"sample_{n:02}" / f"{name}.mp4" for n in range(2) for name in ("depth", "video")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    run = Run("run", tmp_path, "predict", {}, samples={"s0": [paths[0].parent, paths[2].parent]})
    videos = [(number, path.stem) for number, path in videos_of(run, "s0")]
    assert videos == [(1, "video"), (2, "video"), (1, "depth"), (2, "depth")]


def test_contact_sheets_stand_for_pictures_that_were_not_stored(tmp_path: Path) -> None:
    write_test(tmp_path / "old", GOOD, pictures=False)
    (run,) = read_runs([tmp_path / "old"])
    pictures = pictures_of(run, "s2")
    assert pictures is not None
    (layer,) = pictures.layers
    assert layer.name == "contact sheet"
    np.testing.assert_array_equal(layer.images[0], noise(2, 1)[0])
    report_runs([tmp_path / "old"], tmp_path / "page.html")
    assert 'data-alt="contact sheet of s2 by old"' in (tmp_path / "page.html").read_text()


def test_the_page_keeps_to_its_size_and_says_what_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_test(tmp_path / "run", GOOD)
    for number, key in enumerate(GOOD):
        images = np.random.default_rng(number).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
        layers = [Layer("true", images), *(Layer("sample", images[::-1], n) for n in (1, 2))]
        write_layers(tmp_path / "run" / "pictures" / f"{key}.png", Layers(list("abcd"), layers))
    sizes = {}
    for megabytes in (30.0, 0.43, 0.1, 0.05, 0.038):
        report_runs([tmp_path / "run"], tmp_path / "page.html", megabytes=megabytes)
        sizes[megabytes] = (tmp_path / "page.html").stat().st_size
        assert sizes[megabytes] <= megabytes * 1e6
        said = capsys.readouterr().out
        assert ("pictures are stored" in said) == (megabytes < 30)
        assert ("pictures are stored" in (tmp_path / "page.html").read_text()) == (megabytes < 30)
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    assert "of 6 scenes" in said, "at the smallest size"
    report_runs([tmp_path / "run"], tmp_path / "page.html", scenes=4)
    assert "4 of 6 scenes are shown" in (tmp_path / "page.html").read_text()


def test_scenes_that_all_runs_have_are_shown_first(folders: list[Path]) -> None:
    cards, number = cards_of(read_runs(folders[:3]), 1)
    assert number == 7
    assert [card.key for card in cards] == ["s0"]
    assert [row.run.name for row in cards[0].rows] == ["good", "bad <b>", "predict"]


def test_one_name_for_two_scenes_makes_two_cards(tmp_path: Path) -> None:
    write_test(tmp_path / "a", GOOD)
    write_test(tmp_path / "b", GOOD, sketch="1x3: 9 9 9")
    runs = read_runs([tmp_path / "a", tmp_path / "b"])
    assert cards_of(runs, 100)[1] == 12
    assert any("share no scene" in line for line in notices_of(runs))


def test_runs_that_do_not_belong_together_are_told_in_one_line(tmp_path: Path) -> None:
    write_test(tmp_path / "a", GOOD)
    write_test(tmp_path / "b", GOOD, report="MotionReport")
    lines = notices_of(read_runs([tmp_path / "a", tmp_path / "b"]))
    assert lines == ["These tests do not belong together and have tables of their own: a; b"]
    report_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count("<h2>Scores of") == 2


def test_charts_show_the_law_samplers_and_trainings(folders: list[Path]) -> None:
    good, bad, _, fit = read_runs(folders)
    (chart,) = truth_charts([good, bad])
    assert "look red, good: 0.400 [0.300, 0.500], law 0.500." in chart.description
    (by_score,) = (each for each in sampler_charts([good, bad]) if each.title == "psnr mean (target)")
    (line,) = by_score.lines
    (few, many) = line.points
    assert few[0] < many[0], "two evaluations and eight"
    assert few[1] > many[1], "upwards is better"
    assert "DDIM, eta 0.0: 20.5 to 22.5" in by_score.description
    assert sampler_charts([good]) == []
    assert [each.title for each in training_charts([fit])] == ["train/loss", "val/loss", "val/loss, by time"]
    assert "fit: 1.5 to 0.5." in training_charts([fit])[2].description
    assert [tick.label for tick in training_charts([fit])[2].x_ticks] == ["0", "0.5", "1", "1.5", "2"]


def test_what_tests_measure_of_laws_is_drawn(tmp_path: Path) -> None:
    law = LookLaw(["red", "green"], torch.eye(3)[:2], torch.tensor([0.75, 0.25]))
    looks = [np.array(each) for each in ([0, 0, 1], [0, 1, 0], [0, 0, -1])]
    kept = [
        {"looks": each, "purity": np.ones(3), "estimated_look": np.array([0]), "true_look": np.array([0])}
        for each in looks
    ]
    (chart,) = truth_charts([Run("looks", tmp_path, "test", {}, joint=compare_looks(kept, law)[0])])
    assert re.search(r"hidden look: red, looks: 0\.667 \[0\.\d+, 0\.\d+\], law 0\.750\.", chart.description)
    assert "undecided, looks: 0.111" in chart.description
    choices = {
        "choices": np.array([[0, 0, 0, 1], [0, 1, 0, 0]]),
        "directions": np.array([[1.0, 0.0], [-1.0, 0.0]]),
        "probabilities": np.array([0.5, 0.5]),
    }
    joint = MotionReport(str(tmp_path)).joint_scores(iter([choices]))
    (chart,) = truth_charts([Run("motions", tmp_path, "test", {}, joint=joint)])
    assert re.search(r"180°, motions: 0\.250 \[.*\], law 0\.500\.", chart.description)


def test_coverage_stands_beside_its_expectation(tmp_path: Path) -> None:
    scenes = {
        key: {"all": {"coverage": value, "coverage_expected": 0.6}} for key, value in (("a", 0.4), ("b", 0.6))
    }
    (chart,) = truth_charts([Run("linear", tmp_path, "test", {}, scenes=scenes)])
    assert "coverage, linear: 0.500 [0.400, 0.600], law 0.600." in chart.description


def test_the_truths_rank_stands_beside_one_half(tmp_path: Path) -> None:
    """Of the law's own draws the interval holds ½; draws that are all too large are seen to be."""
    generator = torch.Generator().manual_seed(0)
    for shift, right in ((0.0, True), (1.0, False)):
        scenes = {}
        for scene in range(40):
            draws, truth = torch.randn(8, 5, generator=generator) + shift, torch.randn(5, generator=generator)
            scenes[str(scene)] = {"all": score_draws(draws, truth, "signal_")}
        charts = truth_charts([Run("linear", tmp_path, "test", {}, scenes=scenes)])
        (chart,) = [each for each in charts if "Rank" in each.title]
        (bar,) = chart.bars
        assert None not in (bar.low, bar.law, bar.high)
        assert (bar.low < bar.law < bar.high) == right


def test_the_command(folders: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "out" / "page.html"
    assert main(["report", *map(str, folders), "--output", str(page)]) == 0
    assert f"report of 4 runs: {page}" in capfd.readouterr().out
    page.unlink()
    damaged = folders[1] / "report.json"
    damaged.write_text(damaged.read_text()[:100])
    assert main(["report", *map(str, folders), "--output", str(page)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert str(damaged) in line
    assert not page.exists()
    assert main(["report", str(folders[0]), "--megabytes", "0"]) == 2
    assert main(["report", str(folders[0]), "--output", str(tmp_path)]) == 2
    assert main(["report"]) == 0
    assert "DIR" in capfd.readouterr().out
