"""The looks of hidden parts: found in the right pixels, and compared with their law over all scenes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dfm_lightning.callbacks.look_scores import compare_looks, looks_of_scene
from dfm_lightning.tasks import EvaluatedScene
from dfm_lightning.types import LookLaw

SIZE = 8
LAW = LookLaw(["red", "green"], torch.tensor([[1.0, 0.1, 0.1], [0.1, 1.0, 0.1]]), torch.tensor([0.75, 0.25]))
RED, GREEN, GREY = LAW.colours[0], LAW.colours[1], torch.full((3,), 0.5)


def painted(behind: Tensor, views: int = 3) -> Tensor:
    """Views whose upper half shows the hidden part, the lower half something green: v 3 h w."""
    images = GREEN[:, None, None].expand(views, 3, SIZE, SIZE).clone()
    images[:, :, : SIZE // 2] = behind[:, None, None]
    return images * 2 - 1


def scene(true: Tensor, samples: list[Tensor], estimate: Tensor, hidden: Tensor | None = None) -> EvaluatedScene:
    if hidden is None:
        # All of the target and the novel view is hidden; nothing of the context is.
        hidden = torch.ones(3, 1, SIZE, SIZE)
        hidden[0] = 0
    depth = torch.ones(3, 1, SIZE, SIZE)
    look = torch.tensor(0 if true is RED else 1)
    return EvaluatedScene(
        "a", ["context", "target", "novel"], painted(true), torch.stack([painted(s) for s in samples]),
        depth.expand(len(samples), -1, -1, -1, -1), painted(estimate), depth, depth > 0,
        {"look": look, "hidden": hidden},
    )  # fmt: skip


def test_only_pixels_of_the_hidden_part_are_looked_at() -> None:
    """The lower half is hidden too, but never has the hidden part's colour."""
    kept = looks_of_scene(scene(RED, [RED, GREEN, GREY], GREY), LAW)
    assert kept["looks"].tolist() == [0, 1, -1]
    assert kept["purity"].tolist() == [1, 1, 0]
    assert kept["estimated_look"].tolist() == [-1]
    assert kept["true_look"].tolist() == [0]


def test_pixels_that_show_the_part_in_part_are_left_out() -> None:
    hidden = torch.full((3, 1, SIZE, SIZE), 0.5)
    assert looks_of_scene(scene(RED, [RED], RED, hidden), LAW) == {}
    hidden[1, 0, 0, :4] = 1
    assert looks_of_scene(scene(RED, [RED], RED, hidden), LAW)["looks"].tolist() == [0]
    hidden[1, 0, 0, 3] = 0.5
    assert looks_of_scene(scene(RED, [RED], RED, hidden), LAW) == {}


def test_what_the_context_view_shows_does_not_count() -> None:
    hidden = torch.zeros(3, 1, SIZE, SIZE)
    hidden[0] = 1
    assert looks_of_scene(scene(RED, [RED], RED, hidden), LAW) == {}


def test_all_scenes_are_compared_with_the_law() -> None:
    kept = [looks_of_scene(scene(RED, [RED, GREEN], GREY), LAW) for _ in range(4)]
    scores, notes = compare_looks([*kept, {}], LAW)
    found = scores["hidden look"]
    assert found["red"] == 0.5
    assert found["red_law"] == 0.75
    assert found["undecided"] == 0
    assert found["total_variation"] == pytest.approx(0.25)
    assert found["agreement"] == 0
    assert found["correct"] == 0.5
    assert found["expected_agreement"] == pytest.approx(0.75**2 + 0.25**2)
    assert found["estimate_undecided"] == 1
    assert "4 scenes" in notes["hidden look"]


def test_without_a_known_look_nothing_is_said() -> None:
    unknown = scene(RED, [RED], RED)._replace(known={})
    assert looks_of_scene(unknown, LAW) == {}
    assert compare_looks([{}, {"features": np.zeros(3)}], LAW) == ({}, {})
