"""Phase retrieval: images that nobody has seen, from the magnitudes of their Fourier transforms alone."""

import math

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.loading import evaluation_loader, training_loader
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.randomness import generator_for
from dfm_lightning.types import Batch, Views, as_request

SIDE, FULL = 16, 32
STRENGTH = 4.0


class Diffraction(ForwardModel):
    """Magnitudes [b v 1 32 17] of the Fourier transforms of images [b 1 16 16], beside a point source φ [b v 3].

    φ is the source's place, in pixels of an image of 32 × 32 whose upper left quarter is the signal, and its
    amplitude, which is subtracted from the magnitudes. Without a source (amplitude 0) nothing tells an image from
    the one turned by 180°; with one the observation is a hologram, which does.
    """

    def forward(self, signal, params):
        waves = torch.fft.rfft2(signal, s=(FULL, FULL)) / 8
        rows = torch.fft.fftfreq(FULL, device=signal.device)[:, None]
        columns = torch.fft.rfftfreq(FULL, device=signal.device)
        down, along, strength = params[..., None, None, None].unbind(dim=2)
        source = strength * torch.exp(-2j * math.pi * (down * rows + along * columns))
        return (waves[:, None] + source).abs() - strength


def discs(count, name):
    """Images [count 1 16 16] in [0, 1]: three discs with soft edges, their centre of mass in the middle."""
    generator = generator_for("discs", name)
    places = 1.2 * torch.rand(count, 3, 2, generator=generator) - 0.6
    radii, weights = 0.12 + 0.2 * torch.rand(2, count, 3, generator=generator)
    weights = 0.4 + 3 * (weights - 0.12)
    mass = (weights * radii**2)[..., None]
    centre = (mass * places).sum(dim=1, keepdim=True) / mass.sum(dim=1, keepdim=True)
    x, y = (places - centre)[..., None, None].unbind(dim=2)
    ticks = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    distance = ((ticks - x) ** 2 + (ticks[:, None] - y) ** 2).sqrt()
    edges = torch.sigmoid(20 * (radii[..., None, None] - distance))
    return (weights[..., None, None] * edges).sum(dim=1, keepdim=True).clamp(0, 1)


def scenes(count, name):
    """Images seen by their diffraction (context), beside a point source (target; novel: placed elsewhere)."""
    images, generator = discs(count, name), generator_for("sources", name)
    # At the image's right: there the hologram keeps the image apart from its twin.
    places = torch.tensor([8.0, 16.0]).repeat(count, 2, 1)
    places[:, 1] += torch.tensor([16.0, 2.0]) * torch.rand(count, 2, generator=generator)
    sources = torch.cat([places, torch.full((count, 2, 1), STRENGTH)], dim=2)
    params = torch.cat([torch.zeros(count, 1, 3), sources], dim=1)
    observed = torch.cat([Diffraction()(*part) for part in zip(images.split(500), params.split(500), strict=True)])
    return [
        Batch(
            *(Views(observed[i, j : j + 1], params[i, j : j + 1]) for j in range(3)),
            key=f"{name}{i}",
            truth={"signal": images[i]},
        )
        for i in range(count)
    ]


class Discs(LightningDataModule):
    """Discs to train with, and some to validate, test and predict.

    Args:
        count: images to train with.
        tested: images to test with.
    """

    def __init__(self, count: int = 20000, tested: int = 16) -> None:
        super().__init__()
        self.count, self.tested = count, tested

    def train_dataloader(self):
        return training_loader(scenes(self.count, "train"), batch_size=64)

    def val_dataloader(self):
        return DataLoader(scenes(64, "val"), batch_size=64)

    def test_dataloader(self):
        return evaluation_loader(scenes(self.tested, "test"), batch_size=4)

    def predict_dataloader(self):
        return evaluation_loader([as_request(scene) for scene in scenes(4, "test")], batch_size=4)


class PhaseRetrieval(DiffusionWithForwardModel):
    """Counts how often each of the two images is drawn that a diffraction pattern leaves possible."""

    def score(self, draws, scene):
        """Shares of the draws near the true image, and near the turned one; their error from the nearer."""
        drawn, true = torch.cat([draw.signal for draw in draws]), scene.truth["signal"]
        errors = [(drawn - image).square().mean(dim=(1, 2, 3)).sqrt() for image in (true, true.flip(-1, -2))]
        apart = (true - true.flip(-1, -2)).square().mean().sqrt()
        nearest, which = torch.stack(errors).min(dim=0)
        upright, turned = ((which == number) & (nearest < apart / 4) for number in (0, 1))
        return {
            "near_true": upright.float().mean().item(),
            "near_turned": turned.float().mean().item(),
            "both_images": float(bool(upright.any()) and bool(turned.any())),
            "error_of_nearer": nearest.mean().item(),
        }
