"""The scripts that measure and draw run; what they find is the business of test_closed_form.py."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import measure
import picture
import pytest
from PIL import Image

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _leave_no_traces() -> Iterator[None]:
    """The scripts seed everything, which the environment remembers, and silence warnings."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("PL_GLOBAL_SEED", "0")
        yield


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("kind", measure.KINDS)
def test_an_untrained_model_fails_in_every_row(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    measure.main(
        [
            "--seeds",
            "0",
            "--kind",
            kind,
            "--repeats",
            "1",
            "--iterations",
            "1",
            "--breakages",
            "--evaluations",
            "3",
            "--guidance",
            "2",
        ]
    )
    header, rule, *rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(cells(header)) == len(cells(rule)) == 9
    names = ["0", "0, UniPC 3", "0, guidance 2", *(f"0, {name}" for name in measure.SAMPLING)]
    assert [cells(row)[0] for row in rows] == names
    assert all(cells(row)[5] == "fails" and cells(row)[7] == "0/1" for row in rows)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    picture.main([str(tmp_path / "picture.png"), "--iterations", "1"])
    with Image.open(tmp_path / "picture.png") as image:
        assert image.width < image.height
        assert len(set(image.convert("L").getdata())) > 10
