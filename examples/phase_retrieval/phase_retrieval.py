"""Phase retrieval: images that nobody has seen, from the magnitudes of their Fourier transforms alone."""

import math
from typing import NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules.loading import evaluation_loader, training_loader
from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.networks.mlp import LevelMLP
from dfm_lightning.randomness import generator_for
from dfm_lightning.types import Batch, Views, as_request

SIDE, FULL = 16, 32
# Standard deviation of pixels, and of the noise in the image that a hologram of standard normal noise shows.
PIXELS, SHOWN = 0.3, 0.5


def waves_of(images):
    """Fourier transforms [b 1 32 17] of images [b 1 16 16], which are surrounded by zeros."""
    return torch.fft.rfft2(images, s=(FULL, FULL)) / 8


def of_source(params):
    """Waves [b v 1 32 17] of point sources of amplitude 1 at their places."""
    rows = torch.fft.fftfreq(FULL, device=params.device)[:, None]
    columns = torch.fft.rfftfreq(FULL, device=params.device)
    down, along, _ = params[..., None, None, None].unbind(dim=2)
    return torch.exp(-2j * math.pi * (down * rows + along * columns))


class Diffraction(ForwardModel):
    """Diffraction patterns or holograms [b v 1 32 17] of images [b 1 16 16]; φ [b v 3].

    φ is the place of a point source, in pixels of an image of 32 × 32 whose upper left quarter is the signal, and
    whether it shines. Without it the observation is the magnitude |W| of the image's wave: nothing tells an image
    from the one turned by 180°. With it, it is what two exposures tell between which the source's wave R is turned
    by half a period: (|W + R|² − |W − R|²) / 4 = Re(W R*), which depends on where things are.
    """

    def forward(self, signal, params):
        waves = waves_of(signal)[:, None]
        hologram = (waves * of_source(params).conj()).real
        return torch.where(params[..., 2, None, None, None] > 0, hologram, waves.abs())


def shown(hologram, params):
    """The image [b 1 16 16] that a hologram [b 1 1 32 17] shows: the inverse transform, around the source's place.

    The twin image, turned by 180°, appears on the other side of the source, and is cut off.
    """
    return 16 * torch.fft.irfft2(hologram * of_source(params), s=(FULL, FULL))[:, 0, :, :SIDE, :SIDE]


def retrieved(image, magnitudes, steps=6):
    """Images [b 1 16 16] after steps of error reduction (Fienup 1982) to magnitudes [b 1 1 32 17]."""
    for _ in range(steps):
        waves = waves_of(image)
        waves = waves * (magnitudes[:, 0] / waves.abs().clamp(min=1e-6))
        image = 8 * torch.fft.irfft2(waves, s=(FULL, FULL))[:, :, :SIDE, :SIDE].clamp(min=0)
    return image


class Known(NamedTuple):
    """What does not change while sampling: context, the pattern's logarithm [b 544], the hologram's φ [b 1 3]."""

    magnitudes: Tensor
    pattern: Tensor
    params: Tensor


class HologramReader(SignalDenoiser):
    """Looks at the noisy hologram as the image that it shows, and at the pattern in two ways.

    One network after the other is given the pattern's logarithm, the noisy image, the image so far, and what error
    reduction makes of that.

    Args:
        width: hidden numbers of each network; even.
        depth: their residual blocks.
        stages: number of networks.
    """

    def __init__(self, width: int = 384, depth: int = 3, stages: int = 2) -> None:
        super().__init__()
        frequencies, pixels = FULL * (FULL // 2 + 1), SIDE**2
        self.normal = nn.BatchNorm1d(frequencies, affine=False)
        self.networks = nn.ModuleList(
            LevelMLP(frequencies + 3 * pixels, pixels, width, depth) for _ in range(stages)
        )
        self.rates = None

    def use_process(self, process):
        super().use_process(process)
        self.rates = process.rates

    def condition(self, context, target_params):
        pattern = self.normal((context.observation + 0.1).log().flatten(1))
        return Known(context.observation, pattern, target_params)

    def forward(self, noisy, level, conditioning):
        clean, noise = (rate[:, 0] for rate in self.rates(level, noisy))
        # The hologram shows α S + 0.5 σ n. How far to trust it, and how far off the best linear estimate is:
        shows, noise = shown(noisy, conditioning.params), SHOWN * noise
        size = (clean**2 * PIXELS**2 + noise**2).sqrt()
        trust, error = clean**2 * PIXELS**2 / size**2, noise * PIXELS / size
        image = clean * PIXELS**2 / size**2 * shows
        for network in self.networks:
            before = image.detach()
            better = retrieved(before, conditioning.magnitudes)
            seen = torch.cat([shows / size, before / PIXELS, better / PIXELS], dim=1).flatten(1)
            # (Gated blocks multiply: rare inputs that are far out would make numbers without end.)
            found = network(torch.cat([conditioning.pattern, seen], dim=1).clamp(-5, 5), level)
            image = trust * better + (1 - trust) * image + error * found.view_as(image)
        return image


def three_discs(count, generator):
    """Images [count 1 16 16] in [0, 1]: three discs with soft edges, their centre of mass in the middle."""
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


def discs(count, name, apart=0.0):
    """Images [count 1 16 16] that differ from the turned ones by so much or more, root mean square."""
    generator, found = generator_for("discs", name), torch.zeros(0, 1, SIDE, SIDE)
    while len(found) < count:
        images = three_discs(count, generator)
        differences = (images - images.flip(-1, -2)).square().mean(dim=(1, 2, 3)).sqrt()
        found = torch.cat([found, images[differences >= apart]])
    return found[:count]


def scenes(count, name, apart=0.0):
    """Images seen by their diffraction (context), beside a point source (target; novel: placed elsewhere)."""
    images, generator = discs(count, name, apart), generator_for("sources", name)
    # In the middle between the image and its twin, beside it: there the two lie side by side.
    places = torch.tensor([8.0, 15.5]).repeat(count, 2, 1)
    places[:, 1, 0] += 16 * torch.rand(count, generator=generator) - 8
    sources = torch.cat([places, torch.ones(count, 2, 1)], dim=2)
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
        apart: how much these differ from the turned ones, at least (root mean square): of an image that hardly
            does, there is hardly a second one.
    """

    def __init__(self, count: int = 40000, tested: int = 16, apart: float = 0.15) -> None:
        super().__init__()
        self.count, self.tested, self.apart = count, tested, apart

    def train_dataloader(self):
        return training_loader(scenes(self.count, "train"), batch_size=64)

    def val_dataloader(self):
        return DataLoader(scenes(64, "val"), batch_size=64)

    def test_dataloader(self):
        return evaluation_loader(scenes(self.tested, "test", self.apart), batch_size=4)

    def predict_dataloader(self):
        return evaluation_loader([as_request(scene) for scene in scenes(4, "test", self.apart)], batch_size=4)


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
