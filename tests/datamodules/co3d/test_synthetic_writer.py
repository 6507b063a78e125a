"""Synthetic scenes: what is hidden is hidden, its colour is independent, files are whole and reproducible."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_co3d import FRAMES, HEIGHT, WIDTH, write_small_root

from datamodules.synthetic.co3d import HIDDEN_MASKS, TRUTH_FILE
from datamodules.synthetic.co3d.rendering import BACK, OBJECT, render
from datamodules.synthetic.co3d.scene import BACK_COLOURS
from datamodules.synthetic.co3d.writer import Settings, draw_sequence
from dfm_lightning.errors import UserError

SETTINGS = Settings("toy", 20, 0, 0, frames=8, height=64, width=64, seed=3)


@pytest.mark.parametrize("number", range(12))
def test_the_back_is_invisible_from_frame_0_and_large_from_behind(number: int) -> None:
    sequence = draw_sequence(SETTINGS, number)
    front, behind = (
        render(sequence.scene, sequence.path.camera_to_world[frame], sequence.path.intrinsics, 64, 64)
        for frame in (0, 4)
    )
    assert (front.label == OBJECT).mean() > 0.08
    assert not (front.label == BACK).any()
    assert (behind.label == BACK).sum() > 0.4 * (behind.label >= OBJECT).sum()


def test_frame_0_is_the_same_whatever_the_back() -> None:
    """Not by a label: by the pixels, shadows and edges included."""
    sequence = draw_sequence(SETTINGS, 1)
    scene = sequence.scene
    parts = [part._replace(back=np.array([0.3, 0.9, 0.9], np.float32)) for part in scene.parts if part.is_object]
    other = scene._replace(parts=parts + [part for part in scene.parts if not part.is_object])
    view = sequence.path.camera_to_world[0], sequence.path.intrinsics, 64, 64
    assert np.array_equal(render(scene, *view).colour, render(other, *view).colour)
    behind = sequence.path.camera_to_world[4], sequence.path.intrinsics, 64, 64
    assert not np.array_equal(render(scene, *behind).colour, render(other, *behind).colour)


def test_back_colours_follow_their_distribution() -> None:
    """Chi-squared of 600 draws; 16.3 is exceeded with probability 0.001 (three degrees of freedom)."""
    draws = [draw_sequence(SETTINGS, number).scene.back_colour for number in range(600)]
    counts = np.array([draws.count(name) for name in BACK_COLOURS])
    expected = 600 * np.array([colour.probability for colour in BACK_COLOURS.values()])
    assert expected.sum() == pytest.approx(600)
    assert ((counts - expected) ** 2 / expected).sum() < 16.3


def test_truth_file_states_what_is_in_the_pictures(synthetic_root: Path) -> None:
    """The colour of the hidden pixels is nearest to the stated one (by direction: shading only scales it)."""
    truth = json.loads((synthetic_root / TRUTH_FILE).read_text())
    names = list(truth["reflectance"])
    palette = np.array([truth["reflectance"][name] for name in names])
    palette /= np.linalg.norm(palette, axis=1, keepdims=True)
    for sequence, entry in truth["sequences"].items():
        folder = synthetic_root / "toy" / sequence
        hidden = np.asarray(Image.open(folder / HIDDEN_MASKS / "frame000007.png"))
        image = np.asarray(Image.open(folder / "images" / "frame000007.jpg"), float)
        mean = image[hidden].mean(axis=0)
        assert names[int((palette @ mean).argmax())] == entry["back_colour"]
        assert not np.asarray(Image.open(folder / HIDDEN_MASKS / "frame000001.png")).any()


def test_layout_of_files_and_annotations(synthetic_root: Path) -> None:
    folder = synthetic_root / "toy"
    frames = json.loads(gzip.decompress((folder / "frame_annotations.jgz").read_bytes()))
    assert len(frames) == 8 * FRAMES
    for frame in frames[:: FRAMES + 1]:
        assert frame["image"]["size"] == [HEIGHT, WIDTH]
        number = frame["frame_number"] + 1
        assert frame["image"]["path"] == f"toy/{frame['sequence_name']}/images/frame{number:06d}.jpg"
        assert Image.open(synthetic_root / frame["image"]["path"]).size == (WIDTH, HEIGHT)
        mask = Image.open(synthetic_root / frame["mask"]["path"])
        assert mask.mode == "L"
        assert frame["mask"]["mass"] == pytest.approx(np.asarray(mask, float).sum() / 255)
        assert frame["depth"]["path"].endswith(f"frame{number:06d}.jpg.geometric.png")
        assert Image.open(synthetic_root / frame["depth"]["path"]).mode.startswith("I")
        assert Image.open(synthetic_root / frame["depth"]["mask_path"]).mode == "1"
    assert {frame["viewpoint"]["intrinsics_format"] for frame in frames} == {
        "ndc_isotropic",
        "ndc_norm_image_bounds",
    }
    lists = json.loads((folder / "set_lists" / "set_lists_fewview_dev.json").read_text())
    assert [len(lists[split]) // FRAMES for split in ("train", "val", "test")] == [4, 1, 3]
    names = [{entry[0] for entry in lists[split]} for split in ("train", "val", "test")]
    assert not names[0] & names[1]
    assert not names[2] & (names[0] | names[1])
    batches = json.loads((folder / "eval_batches" / "eval_batches_fewview_dev.json").read_text())
    assert [batch[1][1] for batch in batches] == [0, 0, 0]
    assert json.loads((synthetic_root / "category_to_subset_name_list.json").read_text()) == {
        "toy": ["fewview_train", "fewview_dev"]
    }


def test_started_again_it_does_what_is_missing_and_the_files_are_the_same(own_root: Path) -> None:
    before = {path: path.read_bytes() for path in own_root.rglob("*") if path.is_file()}
    shutil.rmtree(own_root / "toy" / "toy_0002")
    (own_root / "toy" / "frame_annotations.jgz").unlink()
    untouched = own_root / "toy" / "toy_0001" / "images" / "frame000001.jpg"
    time = untouched.stat().st_mtime_ns
    write_small_root(own_root)
    assert {path: path.read_bytes() for path in own_root.rglob("*") if path.is_file()} == before
    assert untouched.stat().st_mtime_ns == time


def test_a_folder_of_other_settings_is_refused(own_root: Path) -> None:
    with pytest.raises(UserError, match="settings"):
        write_small_root(own_root, seed=1)
