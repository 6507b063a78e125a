"""Training items: views drawn at random from scenes drawn at random."""

from typing import NamedTuple

import torch
from torch.utils.data import Dataset

from datamodules.image_files import UnreadableError
from datamodules.realestate10k.sampling import draw_roles
from datamodules.replacements import Replacements
from datamodules.scenes import Scene, SceneReader
from datamodules.views import read_batch
from dfm_lightning.errors import UserError
from dfm_lightning.types import Batch

# Draws of a training item from its own scene, and altogether, before there is said to be nothing to read.
_ATTEMPTS_IN_SCENE = 4
_ATTEMPTS = 40


class TrainingViews(NamedTuple):
    """What decides how a scene's frames become a training item; see `draw_roles`."""

    image_size: int
    contexts: int
    novel: int
    distance: tuple[int, int]


class TrainingScenes(Dataset):
    """Random views of each scene, drawn from torch's global generator.

    A draw with a frame that cannot be read is made again, after some times from another scene.
    """

    def __init__(self, reader: SceneReader, keys: list[str], views: TrainingViews, workers: int) -> None:
        self.reader = reader
        self.keys = keys
        self.views = views
        self.replacements = Replacements(workers)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Batch:
        for attempt in range(_ATTEMPTS):
            if attempt >= _ATTEMPTS_IN_SCENE:
                index = int(torch.randint(len(self.keys), ()))
            try:
                return self.draw(self.reader.scene(self.keys[index]))
            except UnreadableError as error:
                self.replacements.report(str(error))
        raise UserError(f"no training views could be read in {_ATTEMPTS} draws: `dfm data verify` says why")

    def draw(self, scene: Scene) -> Batch:
        """Random views of one scene. Raises UnreadableError."""
        views = self.views
        positions = scene.usable_positions()
        least = views.contexts + 1 + views.novel
        if len(positions) < least:
            raise UnreadableError(f"scene {scene.key}: {len(positions)} usable frames, needed are {least}")
        return read_batch(
            scene, draw_roles(positions, views.contexts, views.novel, views.distance), views.image_size
        )
