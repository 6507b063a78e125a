"""Ways of evaluating the paper's denoiser and observing its signal: plain, and cheaper ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from machine import Clock, Run, half

from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Batch, Cameras

# More noise than signal, so that `noisy_fine_samples` counts; a fiftieth of the levels is a step.
FILLED, TIMED = 880, 800
SHARING = 5
EVALUATIONS = 50


class Way(NamedTuple):
    """One way of evaluating the denoiser and observing its signal."""

    name: str
    remembers: bool = True
    shares: bool = False
    noisy: int | None = None
    bf16: bool = False


PLAIN = Way("plain", remembers=False)
ENCODER = Way("of it, the encoder", remembers=False)
REMEMBERED = Way("context remembered")
REMEMBERED_BF16 = Way("context remembered, bf16", bf16=True)
REMEMBERED_BOTH = Way("context remembered, 16 noisy fine samples, bf16", noisy=16, bf16=True)
SHARED = Way("placement shared", shares=True)
SHARED_BF16 = Way("placement shared, bf16", shares=True, bf16=True)
SHARED_BOTH = Way("placement shared, 16 noisy fine samples, bf16", shares=True, noisy=16, bf16=True)
WAYS = [
    PLAIN,
    ENCODER,
    REMEMBERED,
    Way("context remembered, 16 noisy fine samples", noisy=16),
    REMEMBERED_BF16,
    REMEMBERED_BOTH,
    SHARED,
    SHARED_BF16,
    SHARED_BOTH,
]
# Runs of 50 evaluations, half of them on more noise than signal: how many are of which kind.
PLACED = EVALUATIONS // SHARING
RUNS = {
    "exact: context remembered": {PLAIN: 1, REMEMBERED: EVALUATIONS - 1},
    "placement shared by 5": {PLAIN: 1, REMEMBERED: PLACED - 1, SHARED: EVALUATIONS - PLACED},
    "and bf16": {PLAIN: 1, REMEMBERED_BF16: PLACED - 1, SHARED_BF16: EVALUATIONS - PLACED},
    "and bf16, 16 noisy fine samples": {
        PLAIN: 1,
        REMEMBERED_BF16: PLACED // 2,
        REMEMBERED_BOTH: PLACED - PLACED // 2 - 1,
        SHARED_BF16: (EVALUATIONS - PLACED) // 2,
        SHARED_BOTH: EVALUATIONS - PLACED - (EVALUATIONS - PLACED) // 2,
    },
}


class Evaluations:
    """Evaluations of a model for one scene, in each of the ways.

    The memory of a precision is filled, and fine points are placed, by an evaluation at the level before.

    Args:
        rays: rays along a side of the image that are rendered, evenly spread; all others count as taking as long.
    """

    def __init__(self, model: InverseGraphics, batch: Batch, clock: Clock, rays: int) -> None:
        self.model, self.batch, self.clock = model, batch, clock
        self.camera, self.share = some_rays(batch.target.params, rays)
        self.noise = torch.randn_like(batch.target.observation)
        self.conditioning: dict[bool, Any] = {}
        self.memories: dict[tuple[bool, int | None], Callable[[Any], Any]] = {}
        self.running: dict[Way, VolumeRendering] = {}

    def prepare(self, way: Way) -> None:
        """Do what comes before the evaluation that is timed."""
        if way.bf16 not in self.conditioning:
            with half(way.bf16, self.clock.device):
                self.conditioning[way.bf16] = self.model.denoiser.condition(
                    self.batch.context, self.batch.target.params
                )
        own = self.model.forward_model
        renderer = VolumeRendering(
            own.near,
            own.far,
            own.coarse_samples,
            own.fine_samples,
            noisy_fine_samples=way.noisy,
            # All that are timed share the places of the one before.
            evaluations_per_placement=10**6 if way.shares else 1,
        ).eval()
        self.running[way] = renderer.in_run().while_noisy()
        if way.remembers and _memory(way) not in self.memories:
            self.memories[_memory(way)] = self.model.denoiser.remembering()
            self.observe(way, FILLED)
        elif way.shares:
            self.observe(way, FILLED)

    def observe(self, way: Way, level: int = TIMED) -> Run:
        """Evaluate the denoiser once, and observe the signal; the encoder alone does not."""
        levels = torch.full((1,), level, device=self.clock.device)
        noisy = self.model.process.add_noise(self.batch.target.observation, self.noise, levels)
        remembering = self.memories[_memory(way)] if way.remembers else _unchanged
        with half(way.bf16, self.clock.device):
            predicted = self.clock.run(lambda: self.model.denoiser(noisy, levels, self.conditioning[way.bf16]))
            if way is ENCODER:
                return predicted._replace(result=None)
            rendered = self.clock.run(lambda: self.running[way](remembering(predicted.result), self.camera))
        seconds, flops, image = rendered.times(self.share)
        return Run(predicted.seconds + seconds, predicted.flops + flops, image.float())


def some_rays(camera: Cameras, rays: int) -> tuple[Cameras, float]:
    """Return a camera with fewer pixels, evenly spread, and how many of its own stand for each."""
    step = camera.pixels.shape[2] // rays
    return camera._replace(pixels=camera.pixels[:, :, step // 2 :: step, step // 2 :: step]), step**2


def _memory(way: Way) -> tuple[bool, int | None]:
    # Ways that place fine points themselves need what is known of the coarse ones alone.
    return way.bf16, way.noisy if way.shares else None


def _unchanged(signal: Any) -> Any:
    return signal
