"""Data loaders whose batches depend only on the seed and the batch number, so that training resumes exactly.

A resumed run must see the batches that an uninterrupted one would have seen, whatever the number of workers and
wherever it stopped. The training items therefore form one endless stream: all of them in random order, then all in
another order, and so on, dealt out to the processes like cards. A checkpoint stores how many items were taken, so
that a run resumed with another batch size or number of processes continues with the items that follow.
"""

import math
from collections.abc import Callable, Iterator, Sequence, Sized
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import distributed
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from dfm_lightning.errors import UserError
from dfm_lightning.randomness import generator_for, seeded_generators
from dfm_lightning.ranges import check_at_least

Collate = Callable[[list[Any]], Any]

# Consecutive batches of a process cycle through this many places in the data. If the number of workers equals or
# divides it, each worker reads from few containers at a time.
_LANES = 8


class StreamItems(Dataset):
    """The items of a data set, numbered pass · len + index.

    Torch's global generator is seeded by the item's number while the item is made. A data set that augments can
    therefore draw from that generator as usual, and makes the same item in any process and after any restart.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(cast(Sized, self.dataset))

    def __getitem__(self, number: int) -> Any:
        with seeded_generators(generator_for("training item", number).initial_seed()):
            return self.dataset[number % len(self)]


class StreamOrder(DistributedSampler):
    """Iterate over the numbers of this process's items, from item `start` of its share of the stream.

    One iteration covers one pass over the data in whole batches, or in whole steps of several batches: a batch may
    hold the end of one pass and the beginning of the next. (Lightning does not replace a `DistributedSampler`.)
    """

    def __init__(self, items: StreamItems, batch_size: int, containers: Sequence[int] | None = None) -> None:
        super().__init__(items, *processes())
        self.containers = containers
        self.batch_size = batch_size
        self.set_batches_of_a_step(1)
        self.start = 0
        self._permutation = lru_cache(maxsize=2)(self._permute)

    def __iter__(self) -> Iterator[int]:
        items = len(cast(StreamItems, self.dataset))
        for turn in range(self.start, self.start + self.num_samples):
            passes, position = divmod(turn * self.num_replicas + self.rank, items)
            yield passes * items + self._permutation(passes)[position]

    def set_batches_of_a_step(self, batches: int) -> None:
        """Make each iteration cover one pass in whole optimizer steps of this many batches."""
        step = self.batch_size * batches
        items = len(cast(StreamItems, self.dataset))
        self.num_samples = step * math.ceil(items / (step * self.num_replicas))

    def _permute(self, passes: int) -> list[int]:
        items = len(cast(StreamItems, self.dataset))
        order = torch.randperm(items, generator=generator_for("training order", passes))
        return order.tolist() if self.containers is None else self._gathered(order.numpy(), passes)

    def _gathered(self, order: np.ndarray, passes: int) -> list[int]:
        """Reorder a pass so that one process takes the items of a container, in one lane of batches.

        Containers in random order, with their items in random order, are cut into equal parts, one for each lane
        of each process.
        """
        container = np.asarray(self.containers)[order]
        _, first_seen, which = np.unique(container, return_index=True, return_inverse=True)
        by_container = order[np.argsort(first_seen[which], kind="stable")]
        turn, rank = np.divmod(passes * len(order) + np.arange(len(order)), self.num_replicas)
        lane = rank * _LANES + turn // self.batch_size % _LANES
        gathered = np.empty_like(order)
        gathered[np.argsort(lane, kind="stable")] = by_container
        return gathered.tolist()


class StreamLoader(DataLoader):
    """A loader that continues where it stopped, even within a pass; checkpoints store its state."""

    # Items of this process's share that were taken since training began.
    _taken = 0

    # The base class promises an iterator of a private class, but only iteration is used.
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        cast(StreamOrder, self.sampler).start = self._taken
        for batch in super().__iter__():
            self._taken += cast(int, self.batch_size)
            yield batch

    def hold_whole_steps(self, batches: int) -> None:
        """Make an epoch consist of whole optimizer steps, each of this many batches."""
        cast(StreamOrder, self.sampler).set_batches_of_a_step(batches)

    def state_dict(self) -> dict[str, int]:
        """Return the number of items that all processes have taken since training began."""
        return {"items": self._taken * cast(StreamOrder, self.sampler).num_replicas}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the stored number of items; earlier versions stored batches of each process."""
        if "items" in state:
            self._taken = state["items"] // cast(StreamOrder, self.sampler).num_replicas
        else:
            self._taken = state["batches"] * cast(int, self.batch_size)


class EachOnce(DistributedSampler):
    """This process's share of a data set in its original order: no item is repeated or left out.

    Shares may differ in size by one, or be empty, which `DiffusionWithForwardModel` allows.
    """

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset, *processes())
        self.share = range(self.rank, len(cast(Sized, dataset)), self.num_replicas)

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)

    def __len__(self) -> int:
        return len(self.share)


def training_loader(
    dataset: Dataset,
    batch_size: int,
    workers: int = 0,
    collate: Collate | None = None,
    containers: Sequence[int] | None = None,
) -> StreamLoader:
    """Make a shuffling loader for `train_dataloader`.

    Args:
        dataset: the training items. Their randomness must come from torch's global generator alone.
        batch_size: items in a batch of one process. All batches are full.
        workers: processes that read items.
        collate: makes a batch from a list of items; `default_collate` by default.
        containers: for each item, the number of the file that it shares with others. Items of one file are taken
            by one process, one after the other, so that few files are open at a time.
    """
    _check_counts(batch_size, workers)
    items = StreamItems(dataset)
    if len(items) == 0:
        raise UserError("there is nothing to train on: the data set has no training items")
    return StreamLoader(
        items,
        batch_size=batch_size,
        sampler=StreamOrder(items, batch_size, containers),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
    )


def evaluation_loader(
    dataset: Dataset, batch_size: int, workers: int = 0, collate: Collate | None = None
) -> DataLoader:
    """Make a loader for `test_dataloader` and `predict_dataloader`, which gives each item once, in one process.

    Do not use it for validation during training, where every process needs the same number of batches.

    Args:
        dataset: the items. Their randomness must come from generators named by their keys.
        batch_size: items in a batch of one process.
        workers: processes that read items.
        collate: makes a batch from a list of items; `default_collate` by default.
    """
    _check_counts(batch_size, workers)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EachOnce(dataset),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )


def _check_counts(batch_size: int, workers: int) -> None:
    """Refuse impossible numbers of a data module that does not check them itself."""
    try:
        check_at_least(1, batch_size=batch_size)
        check_at_least(0, workers=workers)
    except ValueError as error:
        raise UserError(str(error)) from error


def processes() -> tuple[int, int]:
    """Return the number of processes that share the data, and the number of this one."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size(), distributed.get_rank()
    return 1, 0
