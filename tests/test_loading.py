"""Loaders: each item once in a pass, each item in one process, and a position that can be resumed."""

import hashlib
from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

import datamodules.loading
from datamodules.loading import evaluation_loader, training_loader


class Numbers(Dataset):
    """Items (index, a random number) as a data set with augmentation makes them."""

    def __init__(self, items: int) -> None:
        self.items = items

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, torch.rand(()).item()


def passes(loader: Any, number: int) -> list[tuple[int, float]]:
    """The items of some passes over a loader, one after the other."""
    return [
        (int(index), float(value))
        for _ in range(number)
        for batch in loader
        for index, value in zip(*batch, strict=True)
    ]


@pytest.fixture(autouse=True)
def _seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")


def as_process(monkeypatch: pytest.MonkeyPatch, count: int, number: int) -> None:
    monkeypatch.setattr(datamodules.loading, "processes", lambda: (count, number))


def test_each_pass_has_each_item_once_in_another_order() -> None:
    loader = training_loader(Numbers(12), batch_size=4)
    items = [index for index, _ in passes(loader, 2)]
    assert len(loader) == 3
    assert sorted(items[:12]) == sorted(items[12:]) == list(range(12))
    assert items[:12] != items[12:]
    assert items[:12] != list(range(12))


def test_batches_are_full_and_nothing_is_dropped_when_the_items_do_not_divide() -> None:
    loader = training_loader(Numbers(5), batch_size=4)
    items = [index for index, _ in passes(loader, 5)]  # 5 passes of 2 batches of 4: 8 times each item
    assert all(items.count(index) == 8 for index in range(5))
    assert {len(batch[0]) for batch in loader} == {4}


def test_augmentation_differs_between_passes_and_leaves_the_callers_generator_alone() -> None:
    loader = training_loader(Numbers(4), batch_size=4)
    items = passes(loader, 2)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert loader.dataset[0] in items
    assert torch.equal(torch.rand(3), expected)
    assert len({value for _, value in items}) == 8


def test_order_and_augmentation_follow_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    first = passes(training_loader(Numbers(8), batch_size=4), 1)
    assert passes(training_loader(Numbers(8), batch_size=4), 1) == first
    monkeypatch.setenv("PL_GLOBAL_SEED", "6")
    assert passes(training_loader(Numbers(8), batch_size=4), 1) != first


@pytest.mark.parametrize("taken", [2, 3, 4])  # inside the first pass, at its end, inside the second
def test_resumes_after_any_number_of_batches(taken: int) -> None:
    whole = passes(training_loader(Numbers(12), batch_size=4), 3)
    stopped, resumed = (training_loader(Numbers(12), batch_size=4) for _ in range(2))
    remaining = taken
    while remaining:
        remaining -= sum(1 for _ in islice(stopped, remaining))
    resumed.load_state_dict(stopped.state_dict())
    rest = whole[taken * 4 :]
    assert passes(resumed, 3)[: len(rest)] == rest


def test_workers_change_nothing() -> None:
    alone = passes(training_loader(Numbers(6), batch_size=2), 2)
    assert passes(training_loader(Numbers(6), batch_size=2, workers=2), 2) == alone


def test_processes_share_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = passes(training_loader(Numbers(12), batch_size=4), 1)
    shares = []
    for number in range(2):
        as_process(monkeypatch, 2, number)
        shares.append(passes(training_loader(Numbers(12), batch_size=2), 1))
    assert [item for pair in zip(*shares, strict=True) for item in pair] == alone


def test_items_of_a_container_come_together_and_each_once_in_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    containers = [item % 40 for item in range(960)]
    everything: list[int] = []
    for number in range(2):
        as_process(monkeypatch, 2, number)
        loader = training_loader(Numbers(960), batch_size=5, containers=containers)
        items = [index for index, _ in passes(loader, 1)]
        everything += items
        batches = [items[i : i + 5] for i in range(0, len(items), 5)]
        for worker in range(4):
            seen = [containers[index] for batch in batches[worker::4] for index in batch]
            open_at_once = [len(set(seen[i : i + 20])) for i in range(0, len(seen), 20)]
            # Two lanes of a worker are in one or two containers each; at random it would be 16 of the 20 items.
            assert max(open_at_once) <= 4
        # A container is cut at a lane's end at most: this process has half of them and a little.
        assert len({containers[index] for index in items}) <= 20 + 2
    assert sorted(everything) == list(range(960))
    assert everything[:480] != sorted(everything[:480])


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_evaluation_gives_each_item_to_one_process(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    items: list[int] = []
    for number in range(count):
        as_process(monkeypatch, count, number)
        loader = evaluation_loader(Numbers(5), batch_size=2)
        share = [index for index, _ in passes(loader, 1)]
        assert len(loader) == -(-len(share) // 2)
        items += share
    assert sorted(items) == list(range(5))


class Drawn(Dataset):
    """Items that draw in several ways from torch's global generator."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]:
        return index, torch.rand(3), torch.randn(2), torch.randperm(5)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_batches_of_a_seed_never_change(workers: int) -> None:
    loader = training_loader(Drawn(), batch_size=4, workers=workers)
    digest = hashlib.sha256()
    for _ in range(2):
        for batch in loader:
            for tensor in batch:
                digest.update(tensor.numpy().tobytes())
    # Whoever changes it changes every training that is resumed.
    assert digest.hexdigest() == "04b8e54360694a931eed70d20557db612c6f52923803730ab32657106f682194"


def test_items_queue_no_seed_for_devices_that_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    queued = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda.random, "_lazy_call", lambda *args, **kwargs: queued.append(args))
    torch.manual_seed(0)
    assert queued  # what each item would cost
    queued.clear()
    passes(training_loader(Numbers(4), batch_size=2), 1)
    assert not queued


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_items_leave_the_gpus_generator_alone_and_draw_the_same() -> None:
    alone = passes(training_loader(Numbers(4), batch_size=2), 1)
    torch.cuda.init()
    torch.cuda.manual_seed(3)
    before = torch.cuda.get_rng_state()
    assert passes(training_loader(Numbers(4), batch_size=2), 1) == alone
    assert torch.equal(torch.cuda.get_rng_state(), before)


def whole_stream(items: int, first: int, count: int) -> list[int]:
    """The numbers of a stretch of the stream, as one process with batches of one item sees them."""
    loader = training_loader(Numbers(items), batch_size=1)
    seen = [index for index, _ in passes(loader, -(-(first + count) // items))]
    return seen[first : first + count]


@pytest.mark.parametrize(("processes", "size"), [(1, 2), (1, 5), (2, 3), (3, 4)])
def test_another_batch_size_or_number_of_processes_goes_on_with_the_items_that_follow(
    monkeypatch: pytest.MonkeyPatch, processes: int, size: int
) -> None:
    before = training_loader(Numbers(12), batch_size=4)
    list(islice(before, 3))
    list(islice(before, 2))  # 20 items
    state, shares = before.state_dict(), []
    for number in range(processes):
        as_process(monkeypatch, processes, number)
        after = training_loader(Numbers(12), batch_size=size)
        after.load_state_dict(state)
        shares.append([index for index, _ in passes(after, 2)])
    dealt = [index for turn in zip(*shares, strict=True) for index in turn]
    as_process(monkeypatch, 1, 0)
    first = 20 - 20 % processes  # what cannot be dealt out evenly comes once more
    assert dealt == whole_stream(12, first, len(dealt))


def test_a_state_that_counts_batches_is_read() -> None:
    loader = training_loader(Numbers(12), batch_size=4)
    loader.load_state_dict({"batches": 5})
    assert [index for index, _ in passes(loader, 1)] == whole_stream(12, 20, 12)
