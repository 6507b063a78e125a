"""Values that travel keep their type; trees of tensors are handled as trees."""

from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch.utilities import move_data_to_device
from torch import Tensor
from torch.utils.data import default_collate

from dfm_lightning.types import (
    Batch,
    Request,
    Views,
    concatenate,
    map_tensors,
    named_tensors,
    repeat_batch,
    select_views,
)


class Pose(NamedTuple):
    """Parameters made of two tensors."""

    place: Tensor
    angle: Tensor


def views(count: int, value: float) -> Views:
    """Views of one scene, as a data set gives them."""
    return Views(torch.full((count, 1, 2, 2), value), Pose(torch.full((count, 3), value), torch.zeros(count)))


def item(value: float) -> Batch:
    return Batch(views(2, value), views(1, value), views(0, value), f"scene{value}", {"code": torch.zeros(4)})


def assert_is_a_batch_of_two(batch: Batch) -> None:
    assert isinstance(batch, Batch)
    assert isinstance(batch.context, Views)
    assert isinstance(batch.context.params, Pose)
    assert batch.context.observation.shape == (2, 2, 1, 2, 2)
    assert batch.target.params.place.shape == (2, 1, 3)
    assert batch.novel.observation.shape == (2, 0, 1, 2, 2)
    assert batch.novel.params.angle.shape == (2, 0)
    assert list(batch.key) == ["scene1.0", "scene2.0"]
    assert batch.truth["code"].shape == (2, 4)


def test_items_are_collated_into_a_batch_of_the_same_types() -> None:
    assert_is_a_batch_of_two(default_collate([item(1.0), item(2.0)]))


def test_a_batch_without_truth_is_collated_too() -> None:
    assert default_collate([item(1.0)._replace(truth={}), item(2.0)._replace(truth={})]).truth == {}


def test_a_batch_goes_to_another_device_with_its_types() -> None:
    moved = move_data_to_device(default_collate([item(1.0), item(2.0)]), torch.device("meta"))
    assert_is_a_batch_of_two(moved)
    assert moved.context.params.place.device.type == "meta"


def test_requests_are_collated() -> None:
    request = default_collate([Request(views(1, 0.0), Pose(torch.zeros(5, 3), torch.zeros(5)), "a")])
    assert isinstance(request, Request)
    assert request.params.place.shape == (1, 5, 3)
    assert list(request.key) == ["a"]


TREE = {
    "pose": Pose(torch.tensor([1.0]), torch.tensor([2.0])),
    "list": [torch.tensor([3.0]), (torch.tensor([4.0]),)],
    "name": "apple",
}


def plain(tree: Any) -> Any:
    """The tree with numbers for tensors, to compare."""
    if isinstance(tree, Tensor):
        return tree.tolist()
    if isinstance(tree, dict):
        return {name: plain(value) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [type(tree).__name__, *map(plain, tree)]
    return tree


def test_mapping_keeps_the_structure_and_what_is_no_tensor() -> None:
    mapped = map_tensors(lambda tensor: tensor * 10, TREE)
    assert plain(mapped) == {
        "pose": ["Pose", [10.0], [20.0]],
        "list": ["list", [30.0], ["tuple", [40.0]]],
        "name": "apple",
    }


def test_mapping_over_several_trees() -> None:
    doubled = map_tensors(lambda tensor: tensor * 2, TREE)
    total = map_tensors(lambda a, b: a + b, TREE, doubled)
    assert plain(total) == plain(map_tensors(lambda tensor: tensor * 3, TREE))


def test_trees_of_different_structure_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        map_tensors(lambda a, b: a, [torch.zeros(1), torch.zeros(1)], [torch.zeros(1)])


def test_tensors_are_named_by_their_place() -> None:
    names = dict(named_tensors(TREE, "signal"))
    assert {name: value.item() for name, value in names.items()} == {
        "signal.pose.place": 1.0,
        "signal.pose.angle": 2.0,
        "signal.list.0": 3.0,
        "signal.list.1.0": 4.0,
    }
    assert [name for name, _ in named_tensors(torch.zeros(1), "signal")] == ["signal"]


def test_views_are_concatenated_and_selected_along_their_dimension() -> None:
    first, second = default_collate([views(2, 1.0)]), default_collate([views(1, 2.0)])
    both = concatenate([first, second], dim=1)
    assert isinstance(both.params, Pose)
    assert both.params.place[0, :, 0].tolist() == [1.0, 1.0, 2.0]
    assert plain(select_views(both, slice(2, 3))) == plain(second)


def test_batch_elements_are_repeated_side_by_side() -> None:
    repeated = repeat_batch(Pose(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 4.0])), 3)
    assert repeated.place.flatten().tolist() == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    assert repeated.angle.tolist() == [3.0, 3.0, 3.0, 4.0, 4.0, 4.0]
