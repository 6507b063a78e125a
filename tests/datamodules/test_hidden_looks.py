"""The truth beside synthetic scenes: read as the generators write it, refused where it is damaged."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.hidden_looks import open_looks
from datamodules.image_files import UnreadableError
from dfm_lightning.errors import UserError

OBJECTS = {
    "attribute": "back_colour",
    "distribution": {"red": 0.75, "green": 0.25},
    "reflectance": {"green": [0.0, 1.0, 0.0], "red": [1.0, 0.0, 0.0]},
    "sequences": {"a": {"back_colour": "green"}, "b": {"back_colour": "red"}},
}
ROOMS = {
    "attribute": "walls_behind",
    "distribution": {"red": 0.75, "green": 0.25},
    "colours": {"green": [0.0, 1.0, 0.0], "red": [1.0, 0.0, 0.0]},
    "scenes": {"a": {"walls_behind": "green"}, "b": {"walls_behind": "red"}},
}


@pytest.mark.parametrize("truth", [OBJECTS, ROOMS])
def test_law_and_looks(tmp_path: Path, truth: dict[str, object]) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    found = open_looks(tmp_path)
    assert found is not None
    assert found.law.names == ["red", "green"]
    assert found.law.colours.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert found.law.probabilities.tolist() == [0.75, 0.25]
    assert found.looks == {"a": 1, "b": 0}


def test_real_data_have_no_truth(tmp_path: Path) -> None:
    assert open_looks(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({**OBJECTS, "sequences": {"a": {}}})])
def test_damaged_truth_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(UserError, match=r"truth\.json"):
        open_looks(tmp_path)


def test_masks_are_cut_like_images(tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(OBJECTS))
    mask = np.zeros((8, 12), dtype=bool)
    mask[:4, 2:6] = True  # the upper left quarter of the central square
    Image.fromarray(mask).save(tmp_path / "mask.png")
    looks = open_looks(tmp_path)
    assert looks is not None
    truth = looks.truth("a", [tmp_path / "mask.png"] * 2, 4)
    assert truth["look"] == 1
    expected = torch.zeros(4, 4)
    expected[:2, :2] = 1
    assert truth["hidden"].shape == (2, 1, 4, 4)
    torch.testing.assert_close(truth["hidden"][0, 0], expected, atol=0.3, rtol=0)
    assert looks.truth("of another set", [], 4) == {}
    with pytest.raises(UnreadableError, match="missing"):
        looks.truth("a", [tmp_path / "missing.png"], 4)
