"""Files and folders appear whole, or not at all."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import full_disk
from PIL import Image
from safetensors.torch import save_file

from dfm_lightning.files import file_name, remove_leftovers, whole_file, whole_folder, write_json


def test_a_file_whose_writing_fails_does_not_appear_and_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with whole_file(path) as aside:
        aside.write_text("old")
    with pytest.raises(UnicodeEncodeError), whole_file(path) as aside:
        aside.write_text("begun, then \ud800", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_appears_whole_and_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for content in ("old", "new"):
        with whole_folder(path) as aside:
            (aside / content).write_text(content)
            assert not (path / content).exists()
    assert [child.name for child in path.iterdir()] == ["new"]
    with pytest.raises(RuntimeError), whole_folder(path) as aside:
        raise RuntimeError
    assert [child.name for child in tmp_path.iterdir()] == ["folder"]
    assert [child.name for child in path.iterdir()] == ["new"]


def test_leftovers_of_a_killed_process_go_and_results_stay(tmp_path: Path) -> None:
    (tmp_path / "scene" / ".partial-123-sample_00").mkdir(parents=True)
    (tmp_path / "scene" / ".partial-123-sample_00" / "x.png").touch()
    (tmp_path / ".partial-9-a.json").touch()
    (tmp_path / "scene" / "sample_01").mkdir()
    remove_leftovers(tmp_path)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["scene", "scene/sample_01"]


def save_array(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, values=np.ones(1000))


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("x" * 2000),
    "numpy": save_array,  # its error has no number
    "torch": lambda path: torch.save(torch.ones(1000), path),  # a RuntimeError
    "safetensors": lambda path: save_file({"values": torch.ones(1000)}, path),  # an error of its own
    "pillow": lambda path: Image.effect_noise((100, 100), 50).save(path, "png"),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("in_folder", [False, True])
def test_a_disk_that_takes_no_more_is_said_with_the_files_name(tmp_path: Path, name: str, in_folder: bool) -> None:
    path = tmp_path / "result"
    if in_folder:
        with full_disk(1000), pytest.raises(OSError, match="too large") as raised, whole_folder(path) as aside:
            WRITERS[name](aside / "file")
    else:
        with full_disk(1000), pytest.raises(OSError, match="too large") as raised, whole_file(path) as aside:
            WRITERS[name](aside)
    assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(path))
    assert not list(tmp_path.iterdir())


def test_errors_of_other_files_and_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, whole_file(tmp_path / "copy") as aside:
        aside.write_bytes((tmp_path / "source").read_bytes())
    assert raised.value.filename == str(tmp_path / "source")
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "copy"):
        raise ZeroDivisionError


def test_json_refuses_what_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"psnr": float("inf")})
    write_json(tmp_path / "a.json", {"psnr": 1.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"psnr": 1.5}


def test_file_names_are_safe_and_distinct() -> None:
    keys = ["apple/1", "apple_1", "apple 1", "..", "../x", "ä", "ö", "x" * 300, "x" * 301, "a\x00b"]
    names = [file_name(key) for key in keys]
    assert len(set(names)) == len(keys)
    assert file_name("110_13051_23361") == "110_13051_23361"
    for name in names:
        assert "/" not in name
        assert "\x00" not in name
        assert not name.startswith(".")
        assert 0 < len(name) <= 120
