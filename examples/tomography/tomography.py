"""Tomography with few angles: images that nobody has seen, from (filtered) projections alone."""

import math

import torch
from lightning.pytorch import LightningDataModule
from torch.nn import functional as F
from torch.utils.data import DataLoader

from datamodules.loading import evaluation_loader, training_loader
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.randomness import generator_for
from dfm_lightning.types import Batch, Views, as_request

SIDE, GIVEN, SEEN = 32, 3, 24


def rays(images, angles):
    """Sinograms [b v 1 angles 32] of images [b 1 32 32] at angles [b v angles]: means along rays, times 4."""
    flat = angles.flatten(1)
    cos, sin, zero = flat.cos(), flat.sin(), torch.zeros_like(flat)
    turns = torch.stack([cos, -sin, zero, sin, cos, zero], dim=-1).unflatten(-1, (2, 3))
    grid = F.affine_grid(turns.flatten(0, 1), [flat.numel(), 1, SIDE, SIDE], align_corners=False)
    # One image below the other, each under all of its angles: so no image is copied.
    turned = F.grid_sample(images, grid.view(len(images), -1, SIDE, 2), align_corners=False)
    return 4 * turned.view(len(images), *angles.shape[1:], SIDE, SIDE).mean(dim=-2)[:, :, None]


def half_ramp():
    """A filter of sinograms' rows [32 32]: each frequency f is multiplied by about the root of f.

    Filtered twice, projections are those of filtered backprojection. So the adjoint of the filtered ones, at many
    angles, nearly inverts them, and their squared error is nearly the image's, at each frequency. Without the
    filter, what is fine in an image hardly counts. The factor gives filtered sinograms about unit range; their
    means are kept, too.
    """
    frequencies = torch.fft.fftfreq(2 * SIDE, dtype=torch.float64).abs() * 2
    kernel = torch.fft.ifft((frequencies + 1 / SIDE).sqrt()).real
    places = torch.arange(SIDE)
    return 3 * kernel[(places[:, None] - places) % (2 * SIDE)].float()


class Projections(ForwardModel):
    """Filtered sinograms [b v 1 angles 32] of images [b 1 32 32] at angles φ [b v angles]."""

    def __init__(self):
        super().__init__()
        self.register_buffer("filter", half_ramp(), persistent=False)

    def forward(self, signal, params):
        return rays(signal, params) @ self.filter

    def target_size(self, context):
        return (1, SEEN, SIDE)


def phantoms(count, name):
    """Images [count 1 32 32] in [0, 1]: a body with up to five organs, all ellipses with soft edges."""
    generator = generator_for("phantoms", name)
    ticks = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    image = torch.zeros(count, SIDE, SIDE)
    for organ in range(6):
        x, y, long, short, turn, there = torch.rand(6, count, 1, 1, generator=generator)
        if organ == 0:
            x, y, long, short, value = x * 0.2 - 0.1, y * 0.2 - 0.1, 0.6 + 0.2 * long, 0.45 + 0.2 * short, 0.5
        else:
            x, y, long, short = x - 0.5, y - 0.5, 0.1 + 0.25 * long, 0.1 + 0.15 * short
            value = (there > 0.3) * (there - 0.65) * 1.4
        cos, sin = (math.pi * turn).cos(), (math.pi * turn).sin()
        across, along = ticks - x, ticks[:, None] - y
        radius = (((cos * across + sin * along) / long) ** 2 + ((cos * along - sin * across) / short) ** 2).sqrt()
        image = image + value * torch.sigmoid((1 - radius) * 12)
    return image.clamp(0, 1)[:, None]


def scenes(count, name, novel=0):
    """Bodies seen at 3 angles (context), at 24 (target), and at 24 in between (novel)."""
    images, generator = phantoms(count, name), generator_for("angles", name)
    given = math.pi * (torch.arange(GIVEN) + torch.rand(count, 1, 1, generator=generator)) / GIVEN
    first = torch.rand(count, 1, 1, generator=generator)
    shifts = [first, first + 0.5][: 1 + novel]
    seen = torch.cat([math.pi * (torch.arange(SEEN) + shift) / SEEN for shift in shifts], dim=1)
    project = Projections()
    sinograms = [
        torch.cat([project(*part) for part in zip(images.split(256), angles.split(256), strict=True)])
        for angles in (given, seen)
    ]
    return [
        Batch(
            Views(sinograms[0][i], given[i]),
            Views(sinograms[1][i, :1], seen[i, :1]),
            Views(sinograms[1][i, 1:], seen[i, 1:]),
            f"{name}{i}",
            truth={"signal": images[i]},
        )
        for i in range(count)
    ]


class Bodies(LightningDataModule):
    """Bodies to train with, and some to validate, test and predict.

    Args:
        count: bodies to train with.
        tested: bodies to test with.
        batch_size: of training.
    """

    def __init__(self, count: int = 4000, tested: int = 32, batch_size: int = 32) -> None:
        super().__init__()
        self.count, self.tested, self.batch_size = count, tested, batch_size

    def train_dataloader(self):
        return training_loader(scenes(self.count, "train"), batch_size=self.batch_size)

    def val_dataloader(self):
        return DataLoader(scenes(32, "val"), batch_size=32)

    def test_dataloader(self):
        return evaluation_loader(scenes(self.tested, "test", novel=1), batch_size=8)

    def predict_dataloader(self):
        return evaluation_loader([as_request(scene) for scene in scenes(4, "test", novel=1)], batch_size=4)
