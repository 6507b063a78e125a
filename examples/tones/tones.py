"""Decaying tones heard in short windows: a NamedTuple as signal, a denoiser, a loss and a score of one's own."""

from typing import NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.nn import functional as F

from datamodules.loading import evaluation_loader, training_loader
from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.networks.mlp import LevelMLP
from dfm_lightning.randomness import generator_for
from dfm_lightning.types import Batch, LossTerm, Views, as_request

SAMPLES = 32


class Tone(NamedTuple):
    """A signal: pitch (periods a window), decay (1 / window) and loudness, each [b]."""

    pitch: Tensor
    decay: Tensor
    loudness: Tensor


class Microphone(NamedTuple):
    """Parameters of an observation: start of the window (in windows) and gain, each [b v]."""

    start: Tensor
    gain: Tensor


class Recording(ForwardModel):
    """The sound [b v 1 1 SAMPLES] of a tone in a window."""

    def forward(self, signal, params):
        time = params.start[..., None] + torch.arange(SAMPLES, device=params.start.device) / SAMPLES
        pitch, decay, loudness = (part[:, None, None] for part in signal)
        sound = loudness * torch.exp(-decay * time) * torch.sin(2 * torch.pi * pitch * time)
        return (params.gain[..., None] * sound)[:, :, None, None]


class ToneDenoiser(SignalDenoiser):
    """Reads windows with a small network.

    Args:
        width: hidden numbers; even.
    """

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        # Two windows with the two parameters of each go in, three numbers come out.
        self.network = LevelMLP(2 * (SAMPLES + 2), 3, width, depth=3)

    def condition(self, context, target_params):
        known = [context.observation, *context.params, *target_params]
        return torch.cat([tensor.flatten(1) for tensor in known], dim=1)

    def forward(self, noisy, level, conditioning):
        numbers = self.network(torch.cat([conditioning, noisy.flatten(1)], dim=1), level)
        pitch, decay, loudness = F.softplus(numbers).unbind(dim=1)
        return Tone(1 + pitch, decay, loudness)


class Tones(DiffusionWithForwardModel):
    """Prefers slow decay, and knows how to score a pitch.

    Args:
        decay_weight: weight of the mean decay in the loss.
    """

    without_effect = frozenset({"decay_weight"})  # on samples

    def __init__(self, *others, decay_weight: float = 0.001, **more) -> None:
        super().__init__(*others, **more)
        self.decay_weight = decay_weight

    def regularisers(self, denoised):
        return {"decay": LossTerm(denoised.signal.decay.mean(), self.decay_weight)}

    def test_step(self, batch, batch_idx):
        errors = {}
        for prediction in self.predictions(as_request(batch)):
            true = batch.truth["pitch"][batch.key.index(prediction.key)]
            errors.setdefault(prediction.key, []).append((prediction.signal.pitch - true).abs().mean())
        return {"scores": {key: {"pitch_error": sum(found) / len(found)} for key, found in errors.items()}}


def scene(key, novel=3):
    """A tone heard in a short far window (context), from its start (target), and in others (novel)."""
    generator = generator_for("tone", key)
    pitch, decay, loudness = torch.rand(3, 1, generator=generator)
    tone = Tone(1 + 3 * pitch, 1 + decay, 0.5 + 0.5 * loudness)
    start = torch.cat([torch.tensor([1.0, 0.0]), torch.rand(novel, generator=generator)])
    microphones = Microphone(start, 0.5 + torch.rand(2 + novel, generator=generator))
    sound = Recording()(tone, Microphone(*(part[None] for part in microphones)))[0]
    roles = (slice(0, 1), slice(1, 2), slice(2, None))
    views = [Views(sound[role], Microphone(*(part[role] for part in microphones))) for role in roles]
    return Batch(*views, key=key, truth={"pitch": tone.pitch[0]})


class ToneData(LightningDataModule):
    """Tones.

    Args:
        count: tones to train with.
    """

    def __init__(self, count: int = 5000) -> None:
        super().__init__()
        self.count = count

    def train_dataloader(self):
        return training_loader([scene(f"train{i}") for i in range(self.count)], batch_size=128)

    def test_dataloader(self):
        return evaluation_loader([scene(f"test{i}") for i in range(32)], batch_size=8)

    def predict_dataloader(self):
        return evaluation_loader([as_request(scene(f"test{i}")) for i in range(4)], batch_size=4)
