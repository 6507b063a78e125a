"""Deblurring: images of which only blurred and noisy ones were ever seen; the posterior can be enumerated."""

import math
from itertools import product

import torch
from lightning.pytorch import LightningDataModule
from torch.nn import functional as F
from torch.utils.data import DataLoader

from datamodules.loading import evaluation_loader, training_loader
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.randomness import generator_for
from dfm_lightning.types import Batch, Views, as_request

SIDE, WINDOW = 16, 9
# Standard deviation of the noise: of a heavily blurred image, of a hardly blurred one.
NOISE = {"context": 0.1, "target": 0.02}


class Blurring(ForwardModel):
    """Images [b 1 16 16], blurred by kernels; φ [b v 82]: a kernel, row by row, and the deviation of the noise."""

    def forward(self, signal, params):
        kernels = params[..., :-1].unflatten(2, (WINDOW, WINDOW))
        views = signal.expand(-1, params.shape[1], -1, -1).reshape(1, -1, SIDE, SIDE)
        blurred = F.conv2d(views, kernels.flatten(0, 1)[:, None], padding=WINDOW // 2, groups=views.shape[1])
        return blurred.view(len(signal), -1, 1, SIDE, SIDE)

    def noise_deviation(self, params):
        return params[..., -1:, None, None]


def all_images():
    """The 256 images [256 1 16 16] in [0, 1] that there are: in each quarter one of four strokes."""
    ticks = (torch.arange(SIDE // 2) + 0.5) * 4 / SIDE - 1
    angles = torch.arange(4)[:, None, None] * math.pi / 4
    across = angles.cos() * ticks - angles.sin() * ticks[:, None]
    along = angles.sin() * ticks + angles.cos() * ticks[:, None]
    strokes = torch.exp(-((across / 0.3) ** 2) - (along / 0.8) ** 4)
    chosen = torch.tensor(list(product(range(4), repeat=4)))
    rows = [torch.cat([strokes[chosen[:, i]], strokes[chosen[:, i + 1]]], dim=2) for i in (0, 2)]
    return torch.cat(rows, dim=1)[:, None]


def kernels(count, least, most, generator):
    """Gaussian kernels [count 81], longer in one direction than across it, of random direction."""
    ticks = torch.arange(WINDOW) - WINDOW // 2
    turn, length = torch.rand(2, count, 1, 1, generator=generator)
    cos, sin, long = (math.pi * turn).cos(), (math.pi * turn).sin(), least + (most - least) * length
    along, across = cos * ticks + sin * ticks[:, None], cos * ticks[:, None] - sin * ticks
    kernel = torch.exp(-0.5 * ((along / long) ** 2 + (across / (0.6 * long)) ** 2))
    return (kernel / kernel.sum(dim=(1, 2), keepdim=True)).flatten(1)


def scenes(count, name):
    """Images blurred heavily (context), and hardly (target and novel), each by a kernel of its own."""
    generator = generator_for("strokes", name)
    images = all_images()[torch.randint(256, (count,), generator=generator)]
    blurs = [kernels(count, 2.0, 3.0, generator), *(kernels(count, 0.4, 0.8, generator) for _ in range(2))]
    noise = torch.tensor([NOISE["context"], NOISE["target"], NOISE["target"]]).expand(count, -1)
    params = torch.cat([torch.stack(blurs, dim=1), noise[..., None]], dim=2)
    clean = Blurring()(images, params)
    observed = clean + noise[..., None, None, None] * torch.randn(clean.shape, generator=generator)
    return [
        Batch(
            *(Views(observed[i, j : j + 1], params[i, j : j + 1]) for j in range(3)),
            key=f"{name}{i}",
            truth={"signal": images[i]},
        )
        for i in range(count)
    ]


def posterior(scene):
    """Probabilities [256] of all images, given a scene's context."""
    seen = Blurring()(all_images(), scene.context.params[None].expand(256, -1, -1))
    errors = (seen - scene.context.observation).square().flatten(1).sum(dim=1)
    return torch.softmax(-0.5 * errors.double() / NOISE["context"] ** 2, dim=0).float()


def energy_distance(drawn, probabilities):
    """Squared energy distance of draws [n 1 16 16] from a distribution over all images; 0 on average if equal."""
    drawn, images = drawn.flatten(1), all_images().flatten(1)
    between = (torch.cdist(drawn, images) @ probabilities).mean()
    of_draws = torch.cdist(drawn, drawn).sum() / (len(drawn) * (len(drawn) - 1))
    return 2 * between - of_draws - probabilities @ torch.cdist(images, images) @ probabilities


class Strokes(LightningDataModule):
    """Images to train with, and some to validate, test and predict.

    Args:
        count: observations to train with.
        tested: scenes to test with.
    """

    def __init__(self, count: int = 32000, tested: int = 16) -> None:
        super().__init__()
        self.count, self.tested = count, tested

    def train_dataloader(self):
        return training_loader(scenes(self.count, "train"), batch_size=64)

    def val_dataloader(self):
        return DataLoader(scenes(32, "val"), batch_size=32)

    def test_dataloader(self):
        return evaluation_loader(scenes(self.tested, "test"), batch_size=4)

    def predict_dataloader(self):
        return evaluation_loader([as_request(scene) for scene in scenes(4, "test")], batch_size=4)
