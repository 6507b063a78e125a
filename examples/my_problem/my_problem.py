"""Discs of unknown place and size, of which only a part is seen: a problem of one's own for dfm."""

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.loading import evaluation_loader, training_loader
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.randomness import generator_for
from dfm_lightning.types import Batch, Views, as_request


class MaskedDiscs(ForwardModel):
    """Images [b v 1 16 16] of discs S = (x, y, radius) [b 3], grey where the mask φ [b v 16 16] is 0."""

    def forward(self, signal, params):
        ticks = (torch.arange(16, device=signal.device) + 0.5) / 8 - 1
        x, y, radius = signal[:, :, None, None].unbind(dim=1)
        distance = ((ticks - x) ** 2 + (ticks[:, None] - y) ** 2 + 1e-6).sqrt()
        image = torch.tanh(8 * (radius - distance))
        return (image[:, None] * params)[:, :, None]


def scene(key):
    """One disc, seen through a half plane (context), whole (target), and through another half plane (novel)."""
    generator = generator_for("disc", key)
    signal = torch.rand(1, 3, generator=generator) * torch.tensor([1.2, 1.2, 0.3]) - torch.tensor([0.6, 0.6, -0.2])
    ticks, angles = torch.linspace(-1, 1, 16), 2 * torch.pi * torch.rand(2, 1, 1, generator=generator)
    halves = (angles.cos() * ticks + angles.sin() * ticks[:, None] > 0).float()
    masks = torch.stack([halves[0], torch.ones(16, 16), halves[1]])
    images = MaskedDiscs()(signal, masks[None])[0]
    context, target, novel = (Views(images[i : i + 1], masks[i : i + 1]) for i in range(3))
    return Batch(context, target, novel, key, truth={})


class Discs(LightningDataModule):
    """Discs to train with, and some to validate, test and predict."""

    def train_dataloader(self):
        return training_loader([scene(f"train{i}") for i in range(5000)], batch_size=128)

    def val_dataloader(self):
        return DataLoader([scene(f"val{i}") for i in range(128)], batch_size=128)

    def test_dataloader(self):
        return evaluation_loader([scene(f"test{i}") for i in range(32)], batch_size=8)

    def predict_dataloader(self):
        return evaluation_loader([as_request(scene(f"test{i}")) for i in range(4)], batch_size=4)
