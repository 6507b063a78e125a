"""A stand-in for the network behind FID and KID, whose weights do not come with the program."""

import torch
from torch import Tensor

from dfm_lightning.metrics import RealismMetrics


class FewNumbers(RealismMetrics):
    """Features without a network: the mean of an image and its standard deviation."""

    available = True

    def __init__(self, weights: str | None = None) -> None:
        self.missing = {}

    def features(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return torch.stack([flat.mean(dim=1), flat.std(dim=1)], dim=1)
