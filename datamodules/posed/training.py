"""Training items: views drawn at random from scenes drawn at random."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils.data import Dataset

from datamodules.image_files import UnreadableError
from datamodules.posed.evaluation import KnownTruth, nothing_known
from datamodules.posed.scenes import Scene, SceneReader
from datamodules.posed.views import Roles, read_batch
from datamodules.replacements import Replacements
from dfm_lightning.errors import UserError
from dfm_lightning.types import Batch


class Attempts(NamedTuple):
    """The number of draws of an item, from its own scene and in total, before training gives up."""

    own: int = 4
    all: int = 40


class TrainingScenes(Dataset):
    """Random views of each scene, drawn from torch's global generator.

    A draw with an unreadable frame is repeated, eventually from another scene, and counted in `replacements`.

    Args:
        reader: the scenes.
        keys: names of those to train on.
        draw: draws the roles of a scene's frames.
        image_size: height and width of the views in pixels.
        scale_augmentation: each scene is scaled by a random factor between this and its inverse; nothing is drawn
            if None.
        draws_per_scene: items of each scene.
        attempts: when to give up.
        workers: number of worker processes.
        known: reads what is known of an item's views besides.
    """

    def __init__(
        self,
        reader: SceneReader,
        keys: list[str],
        draw: Callable[[Scene], Roles],
        image_size: int,
        scale_augmentation: float | None,
        draws_per_scene: int,
        attempts: Attempts,
        workers: int,
        known: KnownTruth = nothing_known,
    ) -> None:
        self.reader = reader
        self.keys = keys
        self.draw = draw
        self.image_size = image_size
        self.scale_augmentation = scale_augmentation
        self.draws_per_scene = draws_per_scene
        self.attempts = attempts
        self.known = known
        self.replacements = Replacements(workers)

    def __len__(self) -> int:
        return len(self.keys) * self.draws_per_scene

    def __getitem__(self, index: int) -> Batch:
        for attempt in range(self.attempts.all):
            if attempt >= self.attempts.own:
                index = int(torch.randint(len(self.keys), ()))
            try:
                scene = self.reader.scene(self.keys[index % len(self.keys)])
                roles = self.draw(scene)
                batch = read_batch(scene, roles, self.image_size, self._enlarged())
                return batch._replace(truth=self.known(scene, roles.positions(), self.image_size))
            except UnreadableError as error:
                problem = str(error)
                self.replacements.report(problem)
        raise UserError(
            f"hardly any training frame can be read: all {self.attempts.all} draws failed (run `dfm data "
            f"verify`), such as {problem}"
        )

    def containers(self) -> list[int] | None:
        """Return for each item the number of the file that holds its scene; None if each has its own file."""
        containers = self.reader.containers()
        if containers is None:
            return None
        number = dict(zip(self.reader.keys(), containers, strict=True))
        return [number[key] for key in self.keys] * self.draws_per_scene

    def _enlarged(self) -> float:
        """Draw a factor uniformly in its logarithm, so that enlarging and shrinking are equally likely."""
        if self.scale_augmentation is None:
            return 1.0
        return math.exp(math.log(self.scale_augmentation) * (2 * torch.rand(()).item() - 1))
