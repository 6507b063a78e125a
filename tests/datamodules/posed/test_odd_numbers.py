"""Numbers in a data set's files that cannot be: each is refused, or its camera left out, before it is used."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from small_roots import FRAMES, write_toys, write_walks

from datamodules.captures.llff import read_llff
from datamodules.co3d.annotations import read_category, read_eval_batches, read_set_list
from datamodules.co3d.frames import read_depth
from datamodules.co3d.inspection import inspect_root
from datamodules.co3d.sequences import build_sequences
from datamodules.hidden_looks import open_looks
from datamodules.image_files import UnreadableError
from datamodules.posed.evaluation_index import read_evaluation_index
from datamodules.realestate10k.frame_folders import FolderReader
from datamodules.realestate10k.mat_files import MatReader
from datamodules.vimeo90k.truth import open_truths
from dfm_lightning.errors import UserError

TOO_LARGE = 10**400  # whole, and no float
DEEP = "[" * 100_000


def refused(read: Callable[[], object], name: str) -> None:
    with pytest.raises(UserError, match=name) as error:
        read()
    assert "\n" not in str(error.value)


# --- Co3D -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toys(tmp_path_factory.mktemp("odd") / "toys", train=1)


def frames_of(root: Path) -> list[dict[str, Any]]:
    return json.loads(gzip.decompress((root / "toy" / "frame_annotations.jgz").read_bytes()))


def root_of(folder: Path, frames: Any, qualities: Any = None) -> Path:
    (folder / "toy").mkdir()
    (folder / "toy" / "frame_annotations.jgz").write_bytes(gzip.compress(json.dumps(frames).encode()))
    if qualities is not None:
        (folder / "toy" / "sequence_annotations.jgz").write_bytes(gzip.compress(json.dumps(qualities).encode()))
    return folder


@pytest.mark.parametrize(
    "change",
    [{"frame_number": float("inf")}, {"frame_number": 1.5}, {"frame_number": True}, {"frame_number": TOO_LARGE},
     {"image": {"path": "a.png", "size": [float("inf"), 4]}}, {"image": {"path": 3, "size": [4, 4]}},
     {"image": {"path": "a.png", "size": [4, "4"]}}, {"image": "a.png"}, {"mask": "m.png"}, {"depth": "d.png"},
     {"depth": {"path": "d.png", "scale_adjustment": TOO_LARGE}}, {"sequence_name": None},
     {"sequence_name": ["a"]}, {"viewpoint": [1]}],
    ids=str,
)  # fmt: skip
def test_frames_in_another_form_are_refused(change: dict[str, Any], toys: Path, tmp_path: Path) -> None:
    frames = frames_of(toys)[:2]
    root = root_of(tmp_path, [frames[0], {**frames[1], **change}])
    refused(lambda: read_category(root, "toy"), "frame_annotations")


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"T": [0.0, 0.0, 1e39]}, "not finite"), ({"T": [0.0, 0.0, -1e12]}, "far away"),
     ({"focal_length": [1e39, 2.0]}, "not finite"), ({"focal_length": [1e9, 2.0]}, "impossible"),
     ({"principal_point": [1e9, 0.0]}, "impossible"), ({"focal_length": [TOO_LARGE, 2.0]}, "not finite"),
     ({"intrinsics_format": ["ndc_isotropic"]}, "unknown format")],
)  # fmt: skip
def test_an_impossible_camera_does_not_count(change: dict, reason: str, toys: Path, tmp_path: Path) -> None:
    frames = frames_of(toys)[:FRAMES]
    frames[1]["viewpoint"].update(change)
    sequences = build_sequences(tmp_path, "toy", read_category(root_of(tmp_path, frames), "toy"))
    (sequence,) = sequences.values()
    assert sequence.usable() == [0, *range(2, FRAMES)]
    assert reason in str(sequence.frames[1].problem)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_depths_scale_is_named(scale: float, toys: Path, tmp_path: Path) -> None:
    frames = frames_of(toys)[:2]
    frames[0]["depth"] = {"path": "some.png", "scale_adjustment": scale, "mask_path": None}
    annotations = read_category(root_of(tmp_path, frames), "toy")
    (sequence,) = build_sequences(tmp_path, "toy", annotations).values()
    with pytest.raises(UnreadableError, match=r"some\.png.*scale_adjustment"):
        read_depth(tmp_path, sequence.frames[0])


def test_sequences_named_by_numbers_are_found_by_them(toys: Path, tmp_path: Path) -> None:
    frames = [{**frame, "sequence_name": 189} for frame in frames_of(toys)[:2]]
    root = root_of(tmp_path, frames, [{"sequence_name": 189, "viewpoint_quality_score": 1.5}])
    annotations = read_category(root, "toy")
    assert annotations.quality == {"189": 1.5}
    assert list(build_sequences(root, "toy", annotations)) == ["189"]


@pytest.mark.parametrize("entries", [[{"sequence_name": "a", "viewpoint_quality_score": "good"}], [3], [{}]])
def test_qualities_in_another_form_are_refused(entries: Any, toys: Path, tmp_path: Path) -> None:
    root = root_of(tmp_path, frames_of(toys)[:1], entries)
    refused(lambda: read_category(root, "toy"), "sequence_annotations")


@pytest.mark.parametrize("entry", ['["a", Infinity, ""]', '["a", 1.5]', '{"a": 1}', "null", "[null, 1]", DEEP])
def test_lists_of_frames_in_another_form_are_refused(entry: str, tmp_path: Path) -> None:
    for folder, read in (("set_lists", read_set_list), ("eval_batches", read_eval_batches)):
        path = tmp_path / "toy" / folder / f"{folder}_some.json"
        path.parent.mkdir(parents=True)
        path.write_text(f'{{"train": [{entry}]}}' if folder == "set_lists" else f"[[{entry}]]")
        refused(lambda read=read: read(tmp_path, "toy", "some"), path.stem)


@pytest.mark.parametrize("content", ['{"scale": 1.0, "source": "guess"}', '{"scale": 1e999, "source": 3}', DEEP])
def test_kept_scales_in_another_form_are_made_again(content: str, toys: Path) -> None:
    sound = str(inspect_root(toys))
    path = toys / "toy" / "scene_scales.json"
    stored = json.loads(path.read_text())
    name = next(iter(stored["scales"]))
    checksum = stored["annotations_checksum"]
    path.write_text(f'{{"annotations_checksum": {checksum}, "scales": {{"{name}": {content}}}}}')
    assert str(inspect_root(toys)) == sound


# --- RealEstate10k ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "value"), [(1, "1e9"), (1, "1e-9"), (3, "1e30"), (10, "1e12"), (2, "-1")])
def test_impossible_cameras_of_a_walk_do_not_count(word: int, value: str, tmp_path: Path) -> None:
    root = write_walks(tmp_path, train=1, test=0)
    path = root / "train" / "train0.txt"
    lines = path.read_text().splitlines()
    words = lines[3].split()
    words[word] = value
    if word == 1:  # both, since a picture may be narrow
        words[2] = value
    path.write_text("\n".join([*lines[:3], " ".join(words), *lines[4:]]))
    scene = FolderReader(root / "train").scene("train0")
    assert scene.usable_positions() == [0, 1, *range(3, FRAMES)]


@pytest.mark.parametrize("table", [np.array([["a"]], dtype=object), np.zeros((3, 19), complex), {"a": 1}, "text"])
def test_tables_of_something_else_cost_their_scene_alone(table: Any, tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "train.mat", {"odd": table, "sound": np.zeros((2, 19))})
    reader = MatReader(tmp_path, "train")
    assert reader.keys() == ["odd", "sound"]
    with pytest.raises(UnreadableError, match="odd"):
        reader.scene("odd")


@pytest.mark.parametrize("position", ["Infinity", "1.5", "true", "1e300", '"1"', DEEP])
def test_positions_of_an_index_are_whole_numbers(position: str, tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text(f'{{"a": {{"context": [0, 3], "target": [1, {position}]}}}}')
    refused(lambda: read_evaluation_index(path), "index")
    path.write_text('{"a": {"context": [0, 3], "target": [1, 2.0]}}')
    assert read_evaluation_index(path).entries["a"].target == [1, 2]


# --- other files ------------------------------------------------------------------------------------------


def test_damaged_archives_in_the_place_of_poses_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "poses_bounds.npy"
    with path.open("wb") as file:
        np.savez(file, poses=np.zeros((3, 17)))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:4], b"\x93NUMPY\x01\x00\x0a\x00{'descr': \n"):
        path.write_bytes(content)
        refused(lambda: read_llff(path), "poses_bounds")


@pytest.mark.parametrize(
    ("law", "red"),
    [({"red": float("nan"), "blue": 0.5}, [1.0, 0.0, 0.0]), ({"red": -0.5, "blue": 1.5}, [1.0, 0.0, 0.0]),
     ({"red": 0.5, "blue": 0.6}, [1.0, 0.0, 0.0]), ({"red": 0.5, "blue": TOO_LARGE}, [1.0, 0.0, 0.0]),
     ({"red": 0.5, "blue": 0.5}, [float("nan"), 0.0, 0.0]), ({"red": 0.5, "blue": 0.5}, [255.0, 0.0, 0.0]),
     ({"red": 0.5, "blue": 0.5}, [1.0, 0.0])],
)  # fmt: skip
def test_a_truth_that_is_no_distribution_is_refused(law: dict, red: list, tmp_path: Path) -> None:
    truth = {"attribute": "look", "distribution": law, "colours": {"red": red, "blue": [0.0, 0.0, 1.0]},
             "scenes": {"a": {"look": "red"}}}  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    refused(lambda: open_looks(tmp_path), "truth")


@pytest.mark.parametrize(
    "law",
    [{"directions": [0.0, 90.0], "probabilities": [0.5, float("nan")]}, {"directions": [0.0], "probabilities": []},
     {"directions": [0.0, 90.0], "probabilities": [1.0]}, {"directions": [float("inf")], "probabilities": [1.0]},
     {"directions": ["up"], "probabilities": [1.0]}, {"directions": [[0.0]], "probabilities": [1.0]}, [1]],
    ids=str,
)  # fmt: skip
def test_directions_that_are_no_distribution_are_refused(law: Any, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps({"distribution": law}))
    refused(lambda: open_truths(tmp_path), "truth")


def test_motions_that_are_none_are_refused(tmp_path: Path) -> None:
    law = {"directions": [0.0], "probabilities": [1.0]}
    (tmp_path / "truth.json").write_text(json.dumps({"distribution": law}))
    truths = open_truths(tmp_path)
    assert truths is not None
    path = tmp_path / "truth" / "a.npz"
    path.parent.mkdir()
    shape, pose = np.zeros((3, 4, 4), np.uint8), np.tile(np.eye(3)[:2], (3, 1, 1, 1))

    def stored(**arrays: np.ndarray) -> bytes:
        with path.open("wb") as file:
            np.savez(file, **arrays)
        return path.read_bytes()

    whole = stored(shape=shape, pose=pose)
    window = (slice(0, 4), slice(0, 4))
    assert torch.equal(truths.tensors("a", 0, 2, (4, 4), window)["flow"], torch.zeros(2, 4, 4))
    refused(lambda: truths.tensors("a", 0, 3, (4, 4), window), r"a\.npz")
    for content in (
        whole[: len(whole) // 2], b"", stored(shape=shape), stored(shape=shape, pose=pose * np.nan),
        stored(shape=shape, pose=pose * 0), stored(shape=shape + 2, pose=pose), stored(shape=shape, pose=pose[:2]),
        stored(shape=shape[0], pose=pose),
    ):  # fmt: skip
        path.write_bytes(content)
        refused(lambda: truths.read("a"), r"a\.npz")
