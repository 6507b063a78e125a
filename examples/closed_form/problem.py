"""Points of a Gaussian mixture that nobody observes, seen through random linear maps: a problem for dfm."""

import torch
from jaxtyping import Float
from lightning.pytorch import LightningDataModule
from mixture import GaussianMixture, three_clusters
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.loading import training_loader
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.types import Batch, Views

DIMENSIONS = 3
NOVEL_VIEWS = 3


class LinearMap(ForwardModel):
    """O = A S: observations of c numbers, as images [b v c 1 1], of signals S [b d] under maps A [b v c d].

    Args:
        target_numbers: numbers c in a target observation; a context observation may have others.
    """

    def __init__(self, target_numbers: int = 2) -> None:
        super().__init__()
        self.target_numbers = target_numbers

    def forward(
        self, signal: Float[Tensor, "b d"], params: Float[Tensor, "b v c d"]
    ) -> Float[Tensor, "b v c 1 1"]:
        """See `ForwardModel`."""
        return torch.einsum("bvcd,bd->bvc", params, signal)[..., None, None]

    def target_size(self, context: Views) -> tuple[int, ...]:
        """See `ForwardModel`."""
        return (self.target_numbers, 1, 1)


def random_axes(count: int) -> Float[Tensor, "n 3 3"]:
    """Uniformly distributed orthonormal axes, in the rows."""
    axes, triangle = torch.linalg.qr(torch.randn(count, DIMENSIONS, DIMENSIONS))
    return axes * triangle.diagonal(dim1=1, dim2=2).sign()[:, None]


def observe_signals(mixture: GaussianMixture, count: int, target_numbers: int) -> Batch:
    """Observations of so many signals of a mixture; everything is drawn from torch's global generator.

    The context sees a signal along a random axis, the target along one or two others orthogonal to it: with two
    they determine the signal together, with one they do not. A novel view is a target view of another orientation.
    """
    signal = mixture.sample(count)
    axes = random_axes(count)
    others = random_axes(count * NOVEL_VIEWS).view(count, NOVEL_VIEWS, DIMENSIONS, DIMENSIONS)
    maps = (axes[:, None, :1], axes[:, None, 1 : 1 + target_numbers], others[:, :, :target_numbers])
    views = [Views(LinearMap(target_numbers)(signal, rows), rows) for rows in maps]
    return Batch(*views, key=[str(number) for number in range(count)], truth={"signal": signal})


class TrainingBatches(Dataset):
    """Batches of new signals every time (a data loader seeds the global generator for each item)."""

    def __init__(self, batch_size: int, target_numbers: int) -> None:
        self.batch_size = batch_size
        self.target_numbers = target_numbers
        self.mixture = three_clusters()

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> Batch:
        # Training sees observations alone.
        return observe_signals(self.mixture, self.batch_size, self.target_numbers)._replace(truth={})


class LinearObservations(LightningDataModule):
    """Observations of signals of `three_clusters` through random linear maps.

    Args:
        target_numbers: numbers in an observation of the target.
        batch_size: signals in a training batch.
    """

    def __init__(self, target_numbers: int = 2, batch_size: int = 1024) -> None:
        super().__init__()
        self.target_numbers = target_numbers
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        """See `LightningDataModule`."""
        batches = TrainingBatches(self.batch_size, self.target_numbers)
        return training_loader(batches, batch_size=1, collate=lambda items: items[0])
