"""A disk that is full, or an ffmpeg that fails, is said in one line, and leaves nothing broken in place."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import full_disk

from dfm_lightning.callbacks.output import write_png, write_video
from dfm_lightning.callbacks.output.flow import write_flo
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file, write_json, write_text

NOISE = np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), dtype=np.uint8)


def write_npz(path: Path) -> None:
    with whole_file(path) as aside, aside.open("wb") as file:
        np.savez(file, noise=NOISE)


def write_npy(path: Path) -> None:
    with whole_file(path) as aside:
        np.save(aside, NOISE)


WRITERS: dict[str, Callable[[Path], None]] = {
    "a.png": lambda path: write_png(path, NOISE[0]),
    "a.mp4": lambda path: write_video(path, NOISE, 5),
    "a.flo": lambda path: write_flo(path, torch.zeros(2, 64, 64)),
    "a.json": lambda path: write_json(path, NOISE[0].tolist()),
    "a.txt": lambda path: write_text(path, "x" * 20_000),
    "a.npz": write_npz,
    "a.npy": write_npy,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("there_before", [False, True])
def test_a_writer_that_is_stopped_says_so_and_leaves_what_was_there(
    tmp_path: Path, name: str, there_before: bool
) -> None:
    path = tmp_path / name
    if there_before:
        path.write_text("old")
    with full_disk(8_000), pytest.raises(OSError, match="File too large") as refused:
        WRITERS[name](path)
    assert refused.value.filename == str(path)
    assert sorted(tmp_path.iterdir()) == ([path] if there_before else [])
    assert not there_before or path.read_text() == "old"


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_writers_write_where_there_is_space(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    assert (tmp_path / name).stat().st_size > 8_000


def test_a_defect_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a"):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("cat > /dev/null; exit 3", "status 3"),
        ("exit 1", "status 1"),
        ("head -c 1000 > /dev/null; echo 'no such codec' >&2; exit 1", "no such codec"),
        ("kill -9 $$", "signal 9"),
        ("yes wrong | head -c 1000000 >&2; exit 1", "wrong"),
    ],
)
def test_an_ffmpeg_that_fails_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\nfor file; do true; done; echo half > "$file"\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    with pytest.raises(UserError, match=rf"a\.mp4.*ffmpeg.*{said}") as refused:
        write_video(tmp_path / "a.mp4", NOISE, 5)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == [program]


def test_an_ffmpeg_that_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "none"))
    with pytest.raises(UserError, match="ffmpeg"):
        write_video(tmp_path / "a.mp4", NOISE, 5)
    assert list(tmp_path.iterdir()) == []
