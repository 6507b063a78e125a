"""Damaged data: used as far as it goes, listed by verification, and never the end of a training."""

import io
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_rooms import FRAMES
from test_realestate10k_forms import module

from datamodules.realestate10k.forms import open_reader
from datamodules.realestate10k.verification import inspect_root, verify_root
from dfm_lightning.errors import UserError

PASSES = 6


def train(root: Path) -> tuple[set[str], int]:
    """Take some passes over the training data: the scenes seen, and how many draws were replaced."""
    data = module(root, batch_size=1)
    loader = data.train_dataloader()
    keys = [batch.key[0] for _ in range(PASSES) for batch in loader]
    return set(keys), data.replaced_draws


def first_scene(root: Path) -> Path:
    """The camera file of a scene that is not held out for validation."""
    keys, _ = module(root).training_split()
    return root / "train" / f"{keys[0]}.txt"


def cut(path: Path, part: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


def truncated_jpegs(file: Path) -> str:
    for picture in sorted(file.with_suffix("").iterdir())[:4]:
        cut(picture, 0.5)
    return "4 of 14 pictures are missing or damaged"


def missing_pictures(file: Path) -> str:
    for picture in sorted(file.with_suffix("").iterdir())[-5:]:
        picture.unlink()
    return "5 of 14 pictures are missing or damaged"


def wrong_columns(file: Path) -> str:
    lines = file.read_text().splitlines()
    lines[3] = " ".join(lines[3].split()[:-1])
    lines[4] += " 0.0"
    lines[5] = lines[5].replace(" ", " x", 1)
    file.write_text("\n".join(lines))
    return "3 of 14 cameras are useless, such as number 2"


def nan_pose(file: Path) -> str:
    lines = file.read_text().splitlines()
    words = lines[7].split()
    words[9] = "nan"
    lines[7] = " ".join(words)
    lines[8] = " ".join([*lines[8].split()[:7], *["0.5"] * 12])
    file.write_text("\n".join(lines))
    return "2 of 14 cameras are useless, such as number 6"


@pytest.mark.parametrize("damage", [truncated_jpegs, missing_pictures, wrong_columns, nan_pose])
def test_a_damaged_scene_is_used_as_far_as_it_goes(damage: Callable[[Path], str], own_rooms: Path) -> None:
    file = first_scene(own_rooms)
    expected = damage(file)
    seen, _ = train(own_rooms)
    assert file.stem in seen
    problems = verify_root(own_rooms)
    assert {problem.where for problem in problems} == {f"train/{file.stem}"}
    assert expected in problems[0].what


def empty_file(file: Path) -> str:
    file.write_text("")
    return "no camera in it"


def url_only(file: Path) -> str:
    file.write_text("https://www.youtube.com/watch?v=0\n")
    return "no camera in it"


def no_text(file: Path) -> str:
    file.write_bytes(b"\xff\xfe\x00\x81")
    return "not a readable text file"


def no_pictures(file: Path) -> str:
    for picture in file.with_suffix("").iterdir():
        picture.unlink()
    file.with_suffix("").rmdir()
    return "14 of 14 pictures are missing or damaged"


@pytest.mark.parametrize("damage", [empty_file, url_only, no_text, no_pictures])
def test_a_scene_without_anything_is_replaced_by_others(
    damage: Callable[[Path], str], own_rooms: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = first_scene(own_rooms)
    expected = damage(file)
    with caplog.at_level(logging.WARNING):
        seen, replaced = train(own_rooms)
    assert file.stem not in seen
    assert len(seen) == 2
    assert replaced >= PASSES
    assert caplog.text.count("other views are used instead") == 1
    problems = verify_root(own_rooms)
    assert [problem.where for problem in problems] == [f"train/{file.stem}"]
    assert expected in problems[0].what


def test_a_chunk_cut_short_costs_its_scenes_alone(own_chunks: Path) -> None:
    chunk = own_chunks / "train" / "000000.torch"
    reader = open_reader(own_chunks, "train", 1.0)
    lost = {key for key, number in zip(reader.keys(), reader.containers() or [], strict=True) if number == 0}
    kept = set(reader.keys()) - lost
    assert kept
    cut(chunk, 0.7)
    data = module(own_chunks, batch_size=1, scenes={"val": 0})
    assert {batch.key[0] for _ in range(3) for batch in data.train_dataloader()} == kept
    problems = verify_root(own_chunks)
    assert {problem.where for problem in problems} == {f"train/{key}" for key in lost}
    assert all("000000.torch: " in problem.what for problem in problems)


def test_a_chunk_with_strange_scenes(own_chunks: Path) -> None:
    path = own_chunks / "train" / "000000.torch"
    chunk = torch.load(path, weights_only=True)
    del chunk[0]["cameras"]
    chunk[1]["cameras"] = chunk[1]["cameras"][:, :17]
    chunk[2]["images"][3] = chunk[2]["images"][3][:100]
    chunk[2]["images"] = chunk[2]["images"][:10]
    torch.save(chunk, path)
    train(own_chunks)
    found = {problem.where.split("/")[1]: problem.what for problem in verify_root(own_chunks)}
    assert "but there is no cameras" in found[chunk[0]["key"]]
    assert "cameras is float32 [14, 17], of 14 timestamps" in found[chunk[1]["key"]]
    assert "5 of 14 pictures" in found[chunk[2]["key"]]


def test_a_chunk_is_never_run_as_code(own_chunks: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple:
            return (Path.touch, (own_chunks / "was_here",))

    path = own_chunks / "train" / "000000.torch"
    torch.save([Hostile()], path)
    problems = verify_root(own_chunks)
    assert not (own_chunks / "was_here").exists()
    assert any("not a readable chunk" in problem.what for problem in problems)


def test_an_index_that_names_what_no_chunk_has(own_chunks: Path) -> None:
    index = own_chunks / "train" / "index.json"
    index.write_text(index.read_text().replace("{", '{"abcd": "000000.torch", "dcba": "000009.torch", ', 1))
    found = {problem.where: problem.what for problem in verify_root(own_chunks)}
    assert "abcd" in found["train/abcd"]
    assert "000009.torch: no such file" in found["train/dcba"]
    index.write_text("{")
    with pytest.raises(UserError, match=r"index\.json"):
        open_reader(own_chunks, "train", 1.0)


def test_damaged_mat_files_and_archives(own_mat: Path) -> None:
    keys, _ = module(own_mat).training_split()
    archive = own_mat / "realestate" / "train" / keys[0] / "data.npz"
    cut(archive, 0.5)
    other = own_mat / "realestate" / "train" / keys[1] / "data.npz"
    content = other.read_bytes()
    position = len(content) // 2
    other.write_bytes(content[:position] + bytes(64) + content[position + 64 :])
    seen, _ = train(own_mat)
    assert keys[0] not in seen
    assert keys[1] in seen
    found = {problem.where: problem.what for problem in verify_root(own_mat)}
    assert "not a readable archive" in found[f"train/{keys[0]}"]
    assert "1 of 14 pictures" in found[f"train/{keys[1]}"]
    cut(own_mat / "train.mat", 0.5)
    with pytest.raises(UserError, match=r"train\.mat.*MATLAB"):
        open_reader(own_mat, "train", 1.0)


def test_test_leaves_out_what_cannot_be_read(own_rooms: Path, recwarn: pytest.WarningsRecorder) -> None:
    broken, good = sorted((own_rooms / "test").glob("*.txt"))
    cut(sorted(broken.with_suffix("").iterdir(), key=lambda path: int(path.stem))[0], 0.3)
    index = str(own_rooms / "evaluation_index.json")
    batches = list(module(own_rooms, evaluation={"index": index}).test_dataloader())
    assert [batch.key[0] for batch in batches] == [good.stem]
    assert any("1 of 2 test scenes" in str(warning.message) for warning in recwarn)
    # Without an index the first usable frame is the context, but this one only turns out to be cut short.
    assert [request.key[0] for request in module(own_rooms).predict_dataloader()] == [good.stem]


def test_nothing_but_damage_is_the_users_business(own_rooms: Path) -> None:
    for file in (own_rooms / "train").glob("*.txt"):
        file.write_text("")
    with pytest.raises(UserError, match="training"):
        train(own_rooms)
    for file in (own_rooms / "test").glob("*.txt"):
        no_pictures(file)
    with pytest.raises(UserError, match=r"\b2 scenes"):
        module(own_rooms).test_dataloader()


def test_other_picture_formats_are_read_as_colours(own_rooms: Path) -> None:
    file = first_scene(own_rooms)
    pictures = sorted(file.with_suffix("").iterdir(), key=lambda path: int(path.stem))
    grey = Image.open(io.BytesIO(pictures[0].read_bytes())).convert("L")
    grey.save(pictures[0].with_suffix(".png"))
    pictures[0].unlink()
    frame = open_reader(own_rooms, "train", 1.0).scene(file.stem).frame(0)
    assert frame.mode == "RGB"
    assert np.array_equal(np.asarray(frame)[..., 0], np.asarray(grey))


def test_inspection_counts_what_can_be_used(own_rooms: Path) -> None:
    file = first_scene(own_rooms)
    missing_pictures(file)
    report = inspect_root(own_rooms)
    assert [split.split for split in report.splits] == ["train", "test"]
    train_split = report.splits[0]
    assert train_split.lengths == {FRAMES: 3, FRAMES - 5: 1}
    assert f"{3 * FRAMES + FRAMES - 5} frames" in str(report)
