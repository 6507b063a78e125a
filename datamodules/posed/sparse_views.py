"""A few of many views of an object: SparseFusion's choice of context views, among evenly spaced ones."""

import torch

from datamodules.posed.scenes import Scene
from datamodules.posed.view_choice import ViewChoice, positions_of
from datamodules.posed.views import Roles
from dfm_lightning.ranges import check_at_least


class SparseViews(ViewChoice):
    """Random views in training; in evaluation, the first few of a shuffle of evenly spaced ones (thesis, 5.1).

    Evaluation takes `spaced` views evenly in time, of which a permutation seeded by the scene's place among all
    scenes makes the first `contexts` the context. All others are unseen: the first is the target, the rest are
    novel.
    Training draws target and contexts at random, all different.

    Args:
        contexts: number of context views in evaluation; 2, 3 and 6 in the thesis.
        training_contexts: number of context views of a training item, of which a task may use fewer.
        spaced: evenly spaced views of a scene in evaluation; fewer in shorter scenes.
    """

    def __init__(self, contexts: int = 2, training_contexts: int = 5, spaced: int = 32) -> None:
        super().__init__(contexts, 0, (1, 1))
        check_at_least(1, training_contexts=training_contexts)
        check_at_least(contexts + 1, spaced=spaced)
        self.training_contexts = training_contexts
        self.spaced = spaced
        self._places: dict[str, int] = {}

    def begin(self, keys: list[str]) -> None:
        """See `ViewChoice`: number the scenes."""
        self._places = {key: place for place, key in enumerate(keys)}

    def draw(self, scene: Scene) -> Roles:
        """Draw different frames at random."""
        positions = positions_of(scene, self.training_contexts + 1)
        target, *context = torch.randperm(len(positions))[: self.training_contexts + 1].tolist()
        return Roles([positions[index] for index in context], positions[target], [])

    def choose(self, scene: Scene, novel: int) -> Roles:
        """Choose the frames of an evaluation: all unseen ones or, with `novel` 0, one of them."""
        positions = positions_of(scene, self.contexts + 1)
        count = min(self.spaced, len(positions))
        spaced = torch.linspace(0, len(positions) - 1, count, dtype=torch.float64).round().long().tolist()
        generator = torch.Generator().manual_seed(self._places.get(scene.key, 0))
        chosen = torch.randperm(count, generator=generator)[: self.contexts].tolist()
        target, *others = [index for index in range(count) if index not in chosen]
        context = [positions[spaced[index]] for index in chosen]
        unseen = [positions[spaced[index]] for index in others] if novel else []
        return Roles(context, positions[spaced[target]], unseen)
