"""People's copies of RealEstate10k: odd text, stray files, other spellings, chunks of something else."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from small_rooms import FRAMES, HEIGHT, WIDTH
from test_realestate10k_forms import module

from datamodules.image_files import UnreadableError
from datamodules.posed.camera_files import read_camera_file
from datamodules.realestate10k.forms import open_reader
from datamodules.realestate10k.verification import inspect_root, verify_root
from dfm_lightning.errors import UserError


def camera_files(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.txt"))


# --- camera files -----------------------------------------------------------------------------------------


def without_url(text: str) -> bytes:
    return text.partition("\n")[2].encode()


def blank_first(text: str) -> bytes:
    return f"\n{text.partition(chr(10))[2]}".encode()


def comments(text: str) -> bytes:
    return ("# made by hand\n\n" + text.replace("\n", "\n# a camera\n", 2)).encode()


def windows(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("utf-8-sig")


def windows_without_url(text: str) -> bytes:
    return without_url(text).replace(b"\n", b"\r\n").join([b"\xef\xbb\xbf", b"\r\n\r\n"])


@pytest.mark.parametrize("spelt", [without_url, blank_first, comments, windows, windows_without_url])
def test_camera_files_spelt_otherwise(spelt: Callable[[str], bytes], rooms: Path, tmp_path: Path) -> None:
    original = camera_files(rooms)[0]
    expected = read_camera_file(original)
    path = tmp_path / "cameras.txt"
    path.write_bytes(spelt(original.read_text()))
    found = read_camera_file(path)
    assert found.timestamps.tolist() == expected.timestamps.tolist()
    assert torch.equal(found.numbers, expected.numbers)
    assert len(found.timestamps) == FRAMES
    assert found.url == ("" if spelt in (without_url, blank_first, windows_without_url) else expected.url)


def test_a_broken_first_camera_keeps_its_place(rooms: Path, tmp_path: Path) -> None:
    lines = camera_files(rooms)[0].read_text().splitlines()[1:]
    lines[0] = " ".join(lines[0].split()[:-1])
    path = tmp_path / "cameras.txt"
    path.write_text("\n".join(lines))
    found = read_camera_file(path)
    assert found.numbers.isnan().any(dim=1).tolist() == [True] + [False] * (FRAMES - 1)


@pytest.mark.parametrize("timestamp", ["1e30", "inf", "-1e25", "nan"])
def test_impossible_timestamps_are_no_cameras(timestamp: str, rooms: Path, tmp_path: Path) -> None:
    lines = camera_files(rooms)[0].read_text().splitlines()
    lines[3] = " ".join([timestamp, *lines[3].split()[1:]])
    path = tmp_path / "cameras.txt"
    path.write_text("\n".join(lines))
    assert read_camera_file(path).numbers.isnan().all(dim=1).nonzero().flatten().tolist() == [2]


# --- names of files ---------------------------------------------------------------------------------------


def test_stray_files_and_spellings(own_rooms: Path, rooms: Path) -> None:
    for file in camera_files(own_rooms):
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\26\7")
        for number, picture in enumerate(sorted(file.with_suffix("").iterdir())):
            picture.with_name(f"._{picture.name}").write_bytes(b"\0\5\26\7")
            picture.rename(picture.with_suffix([".JPG", ".Jpeg", ".JPEG", ".jpg"][number % 4]))
    assert str(inspect_root(own_rooms)).replace(str(own_rooms), "") == str(inspect_root(rooms)).replace(
        str(rooms), ""
    )
    assert verify_root(own_rooms) == []
    mine, theirs = (open_reader(root, "test", 1.0) for root in (own_rooms, rooms))
    assert mine.keys() == theirs.keys()
    keys = mine.keys()
    for key in keys:
        for position in range(FRAMES):
            pictures = (np.asarray(reader.scene(key).frame(position)) for reader in (mine, theirs))
            assert np.array_equal(*pictures)


def test_stray_files_alone_are_no_data_set(tmp_path: Path) -> None:
    for name in ("._000000.torch", "._abc.txt", ".DS_Store"):
        (tmp_path / "test").mkdir(exist_ok=True)
        (tmp_path / "test" / name).write_bytes(b"\0\5\26\7")
    with pytest.raises(UserError, match="RealEstate10k"):
        inspect_root(tmp_path)


def test_pictures_in_archives_may_be_spelt_otherwise(own_mat: Path, mat_rooms: Path) -> None:
    for archive in own_mat.rglob("data.npz"):
        with np.load(archive) as pictures:
            renamed = {name.replace(".jpg", ".JPG"): pictures[name] for name in pictures.files}
        np.savez(archive, **renamed)
    assert verify_root(own_mat) == []


def test_frames_stand_upright(own_rooms: Path) -> None:
    """Phones write pictures as the sensor lies, and say how to turn them."""
    file = camera_files(own_rooms)[0]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for picture in file.with_suffix("").iterdir():
        Image.new("RGB", (HEIGHT, WIDTH), "red").save(picture, exif=exif)
    scene = open_reader(own_rooms, "test", 1.0).scene(file.stem)
    assert scene.frame(0).size == (WIDTH, HEIGHT)


# --- chunks -----------------------------------------------------------------------------------------------


def pictures_as_bytes(scene: dict) -> str:
    scene["images"] = [image.numpy().tobytes() for image in scene["images"]]
    return "number 0 of images is of type bytes"


def decoded_pictures(scene: dict) -> str:
    scene["images"] = [torch.zeros(3, 4, 5) for _ in scene["images"]]
    return r"number 0 of images is float32 \[3, 4, 5\]"


def one_tensor_of_pictures(scene: dict) -> str:
    scene["images"] = torch.zeros(FRAMES, 3, 4, 5)
    return "images is float32"


def no_pictures(scene: dict) -> str:
    del scene["images"]
    return "there is no images"


def listed_cameras(scene: dict) -> str:
    scene["cameras"] = scene["cameras"].tolist()
    return "cameras is of type list"


def matrices(scene: dict) -> str:
    scene["cameras"] = torch.eye(4).expand(FRAMES, 4, 4).clone()
    return r"cameras is float32 \[14, 4, 4\]"


def fewer_cameras(scene: dict) -> str:
    scene["cameras"] = scene["cameras"][:-1].clone()
    return r"cameras is float32 \[13, 18\], of 14 timestamps"


def one_timestamp(scene: dict) -> str:
    scene["timestamps"] = torch.tensor(5)
    return r"timestamps is int64 \[\]"


def no_frames(scene: dict) -> str:
    scene["timestamps"], scene["cameras"], scene["images"] = torch.zeros(0), torch.zeros(0, 18), []
    return r"timestamps is float32 \[0\]"


@pytest.mark.parametrize(
    "change",
    [
        pictures_as_bytes,
        decoded_pictures,
        one_tensor_of_pictures,
        no_pictures,
        listed_cameras,
        matrices,
        fewer_cameras,
        one_timestamp,
        no_frames,
    ],
)
def test_scenes_of_another_layout_are_refused_by_name(change: Callable[[dict], str], own_chunks: Path) -> None:
    """In loading, verifying and inspecting alike; training goes on with the others."""
    path = sorted((own_chunks / "train").glob("*.torch"))[0]
    chunk = torch.load(path, weights_only=True)
    found = change(chunk[0])
    torch.save(chunk, path)
    key = chunk[0]["key"]
    expected = rf"{key} in {path}: expected a dictionary of .*, but {found}"
    with pytest.raises(UnreadableError, match=expected):
        open_reader(own_chunks, "train", 1.0).scene(key)
    problems = verify_root(own_chunks)
    assert [problem.where for problem in problems] == [f"train/{key}"]
    assert "unreadable: 1 scene" in str(inspect_root(own_chunks))
    data = module(own_chunks, batch_size=1, scenes={"val": 0})
    assert {batch.key[0] for _ in range(4) for batch in data.train_dataloader()} == set(
        data.reader("train").keys()
    ) - {key}
    assert data.replaced_draws > 0


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"abc": {"key": "abc"}}, "expected a list of scenes, got of type dict"),
        (torch.zeros(3), r"expected a list of scenes, got float32 \[3\]"),
        ([b"abc"], "scene 0: expected a dictionary .* it is of type bytes"),
        ([{"name": "abc"}], "scene 0: expected a dictionary .* it has no key"),
        ([{"key": "abc", "images": np.zeros(3)}], "not a readable chunk of tensors"),
        (b"\x89PNG", "expected a list of scenes, got of type bytes"),
        (None, "expected a list of scenes, got of type NoneType"),
    ],
)
def test_chunks_of_something_else(content: object, what: str, own_chunks: Path) -> None:
    path = sorted((own_chunks / "test").glob("*.torch"))[0]
    torch.save(content, path)
    reader = open_reader(own_chunks, "test", 1.0)
    with pytest.raises(UnreadableError, match=what):
        reader.scene(reader.keys()[0])
    keys = reader.keys()
    assert {problem.where for problem in verify_root(own_chunks)} == {f"test/{key}" for key in keys}


def test_a_chunk_that_is_not_there(own_chunks: Path) -> None:
    sorted((own_chunks / "test").glob("*.torch"))[0].unlink()
    assert all("no such file" in problem.what for problem in verify_root(own_chunks))
    assert verify_root(own_chunks)


@pytest.mark.parametrize("content", ["", "[]", '["abc"]', '{"abc": 5}', '{"abc": ["000000.torch"]}', "5", "null"])
def test_indexes_of_something_else(content: str, own_chunks: Path) -> None:
    (own_chunks / "test" / "index.json").write_text(content)
    with pytest.raises(UserError, match=r"test/index\.json"):
        open_reader(own_chunks, "test", 1.0)


def test_an_index_with_a_byte_order_mark(own_chunks: Path) -> None:
    path = own_chunks / "test" / "index.json"
    path.write_bytes(path.read_text().encode("utf-8-sig"))
    assert verify_root(own_chunks) == []


def test_chunks_without_an_index(own_chunks: Path) -> None:
    """The split that it is missing in is named, whichever others there are."""
    (own_chunks / "test" / "index.json").unlink()
    assert "test/index.json should name" in str(inspect_root(own_chunks))
    assert [problem.where for problem in verify_root(own_chunks)] == ["test"]
    (own_chunks / "train").rename(own_chunks / "elsewhere")
    for function in (inspect_root, verify_root):
        with pytest.raises(UserError, match=r"^\S*/test/index\.json .* no such file$"):
            function(own_chunks)


def test_scenes_that_only_the_index_has(own_chunks: Path) -> None:
    path = own_chunks / "test" / "index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, "elsewhere": next(iter(index.values()))}))
    assert [problem.where for problem in verify_root(own_chunks)] == ["test/elsewhere"]
