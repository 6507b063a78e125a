"""A pendulum: curves of its angle that nobody has seen, from where its weight was at a few moments."""

from functools import cache

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.loading import evaluation_loader, training_loader
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.randomness import generator_for
from dfm_lightning.types import Batch, Views, as_request

TIMES, STEP, FRICTION = 64, 0.2, 0.1
GIVEN, SEEN = 12, 32
# Standard deviation of the noise: of what is given, and of what training has to show for it.
NOISE = {"context": 0.1, "target": 0.02}


class Displacements(ForwardModel):
    """Where a pendulum's weight is, left or right [b v 1 1 n]: the sine of its angle [b 1 64] at some moments.

    φ [b v n+1] are the moments, in samples of the curve (between two of them the curve is a straight line), and
    the standard deviation of the noise.
    """

    def forward(self, signal, params):
        moments = params[..., :-1]
        before = moments.floor().clamp(0, TIMES - 2)
        curves = signal.expand(-1, params.shape[1], -1)
        left, right = (curves.gather(2, before.long() + side) for side in (0, 1))
        return torch.lerp(left, right, moments - before).sin()[:, :, None, None]

    def noise_deviation(self, params):
        return params[..., -1:, None, None]

    def target_size(self, context):
        return (1, 1, SEEN)


def swing(angle, speed, pull):
    """Curves [count 1 64] of the angle, in radians, given its start, the speed there, and g over length."""
    curve = []
    for number in range(2 * TIMES):
        if number % 2 == 0:
            curve.append(angle)
        # Leapfrog, twice a sample.
        half = speed - STEP / 4 * (pull * angle.sin() + FRICTION * speed)
        angle = angle + STEP / 2 * half
        speed = half - STEP / 4 * (pull * angle.sin() + FRICTION * half)
    return torch.stack(curve, dim=1)[:, None]


def swings(count, name):
    """Curves [count 1 64] of pendulums of unknown length, angle and speed."""
    angle, speed, pull = torch.rand(3, count, generator=generator_for("pendulums", name))
    return swing(4 * angle - 2, 2 * speed - 1, 0.5 + pull)


def scenes(count, name):
    """Pendulums seen at 12 moments with noise (context), and at 32 with hardly any (target and novel)."""
    curves, generator = swings(count, name), generator_for("moments", name)
    batches = []
    for number, noise in ((GIVEN, NOISE["context"]), (SEEN, NOISE["target"]), (SEEN, NOISE["target"])):
        # One in each of so many equal intervals.
        moments = (torch.arange(number) + torch.rand(count, 1, number, generator=generator)) * (TIMES - 1) / number
        params = torch.cat([moments, torch.full((count, 1, 1), noise)], dim=2)
        clean = Displacements()(curves, params)
        batches.append(Views(clean + noise * torch.randn(clean.shape, generator=generator), params))
    return [
        Batch(
            *(Views(v.observation[i], v.params[i]) for v in batches), key=f"{name}{i}", truth={"signal": curves[i]}
        )
        for i in range(count)
    ]


@cache
def curves_of_prior(count=200_000):
    """Curves [count 1 64] that might be, drawn without looking at any observation."""
    return torch.cat([swings(20_000, f"prior{i}") for i in range(count // 20_000)])


def posterior(scene):
    """Probabilities [200000] of `curves_of_prior`, given a scene's context: exact up to their finite number."""
    params = scene.context.params.expand(20_000, -1, -1)
    seen = torch.cat([Displacements()(part, params) for part in curves_of_prior().split(20_000)])
    errors = (seen - scene.context.observation).square().flatten(1).sum(dim=1)
    return torch.softmax(-0.5 * errors.double() / NOISE["context"] ** 2, dim=0).float()


class Pendulums(LightningDataModule):
    """Pendulums to train with, and some to validate, test and predict.

    Args:
        count: pendulums to train with.
        tested: pendulums to test with.
    """

    def __init__(self, count: int = 20000, tested: int = 32) -> None:
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


class Pendulum(DiffusionWithForwardModel):
    """Compares draws with the exact posterior."""

    def score(self, draws, scene):
        """What consistency and spread are for exact draws, and the squared energy distance from these."""
        probabilities = posterior(scene)
        chosen = probabilities.multinomial(2048, replacement=True, generator=generator_for("exact", scene.key[0]))
        exact, drawn = curves_of_prior()[chosen], torch.cat([draw.signal for draw in draws])
        seen = Displacements()(exact, scene.context.params.expand(len(exact), -1, -1))
        errors = (seen - scene.context.observation).flatten(1)
        mine, theirs = drawn.flatten(1), exact.flatten(1)
        of_draws, of_exact = (torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (mine, theirs))
        return {
            "consistency_exact": errors.square().mean(dim=1).sqrt().mean().item(),
            "signal_spread_exact": theirs.var(dim=0).mean().sqrt().item(),
            "energy_distance": (2 * torch.cdist(mine, theirs).mean() - of_draws - of_exact).item(),
        }
