"""The page in a browser: nothing goes wrong, nothing is asked for, and everyone can use it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, browser, find_axe, find_browser
from folders import noise, write_fit, write_prediction, write_test

from dfm_lightning.callbacks.output import write_video
from dfm_lightning.report import report_runs

PROGRAM = find_browser()
AXE = find_axe()
GOOD = {"a": 20.0, "b": 21.0, "c": 22.0}
BAD = {"a": 19.0, "b": 15.0, "c": 20.0}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome was found (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_test(folder / "good", GOOD)
    write_test(folder / "bad", BAD, **{"sampler.steps": 2})
    write_prediction(folder / "predict", ["a"])
    write_video(folder / "predict" / "a" / "sample_00" / "video.mp4", noise(0, 4), 5)
    write_fit(folder / "fit", [3.0, 2.0, 1.0], max_steps=30)
    report_runs([folder / name for name in ("good", "bad", "predict", "fit")], folder / "page.html")
    return folder / "page.html"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with browser(PROGRAM, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def look_at(tab: Browser, number: int) -> None:
    """Scroll to a scene, and wait for its pictures."""
    scene = f"document.querySelector('[data-card=\"{number}\"]')"
    tab.run(f"{scene}.scrollIntoView()")
    tab.wait(f"[...{scene}.querySelectorAll('canvas')].every((canvas) => canvas.dataset.drawn)")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_goes_wrong(page: Path, tab: Browser, width: int, dark: bool) -> None:
    tab.open(page, width, dark)
    for number in range(3):
        look_at(tab, number)
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert tab.run("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    background = tab.run("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")


@pytest.mark.skipif(AXE is None, reason="axe-core was not found (npm install axe-core, or name it in AXE_CORE)")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1400])
def test_axe_finds_no_serious_fault(page: Path, tab: Browser, width: int, dark: bool) -> None:
    assert AXE is not None
    tab.open(page, width, dark)
    tab.run(AXE.read_text() + "; 0")
    script = "axe.run().then((found) => JSON.stringify(found.violations.map((v) => [v.id, v.impact, v.help])))"
    faults = json.loads(tab.run(script))
    assert [fault for fault in faults if fault[1] in ("serious", "critical")] == []


def keys(tab: Browser) -> list[str]:
    return tab.run("[...document.querySelectorAll('.scene h3')].map((head) => head.textContent)")


def choose(tab: Browser, name: str, value: str) -> None:
    tab.run(f"{name}.value = {value!r}; {name}.dispatchEvent(new Event('change')); 0")


def test_scenes_are_sorted(page: Path, tab: Browser) -> None:
    tab.open(page, 1400, dark=False)
    assert keys(tab) == ["a", "b", "c"]
    choose(tab, "score", "target psnr_mean")
    choose(tab, "sort", "score")
    assert keys(tab) == ["b", "a", "c"], "19.5, 18, 21 on average"
    tab.run("falling.click()")
    assert keys(tab) == ["c", "a", "b"]
    choose(tab, "sort", "runs")
    assert keys(tab) == ["b", "c", "a"], "runs differ by 6, 2 and 1"


def test_views_samples_and_layers_are_switched(page: Path, tab: Browser) -> None:
    tab.open(page, 1400, dark=False)
    look_at(tab, 0)
    canvas = "document.querySelector('canvas[data-alt=\"true of a\"]')"
    assert tab.run(f"{canvas}.getAttribute('aria-label')") == "true of a, target", "not the context"
    pixels = f"{canvas}.getContext('2d').getImageData(0, 0, 8, 8).data.join()"
    before = tab.run(pixels)
    choose(tab, "view", "0")
    tab.wait(f"{canvas}.getAttribute('aria-label') === 'true of a, context'")
    assert tab.run(pixels) != before
    shown = "[...document.querySelectorAll('figure.layer')].filter((figure) => !figure.hidden).length"
    every = tab.run(shown)
    choose(tab, "sample", "2")
    of_one = tab.run(shown)
    assert of_one < every
    tab.run("document.querySelector('.layer-choice[value=true]').click()")
    assert tab.run(shown) == of_one - 3


def test_a_picture_is_enlarged_by_keyboard(page: Path, tab: Browser) -> None:
    tab.open(page, 390, dark=True)
    tab.run("document.querySelector('#cards .enlarge').focus(); document.activeElement.click(); 0")
    tab.wait("large.open && document.getElementById('large-text').textContent !== ''")
    first = tab.run("document.getElementById('large-text').textContent")
    for kind in ("keyDown", "keyUp"):
        tab.send(
            "Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39
        )
    tab.wait(f"document.getElementById('large-text').textContent !== {first!r}")
    for kind in ("keyDown", "keyUp"):
        tab.send("Input.dispatchKeyEvent", type=kind, key="Escape", code="Escape", windowsVirtualKeyCode=27)
    tab.wait("!large.open && document.activeElement.className === 'enlarge'")
    assert tab.complaints == []


def test_tables_are_copied_as_they_are_stored(page: Path, tab: Browser) -> None:
    tab.open(page, 1400, dark=False)
    tab.run("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }; 0")
    tab.run("document.querySelector('[aria-label^=\"copy “Scores of target views” as Markdown\"]').click()")
    tab.wait("window.copied")
    assert tab.run("window.copied").startswith("| score | good | bad |\n| --- |")


def test_colours_are_chosen_by_hand(page: Path, tab: Browser) -> None:
    tab.open(page, 1400, dark=True)
    tab.run("theme.click()")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tab.run("theme.click()")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    tab.run("theme.click()")
