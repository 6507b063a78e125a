"""A choice of views for walks: the first context at one end, the target at the other, all others in between."""

import numpy as np
import torch

from datamodules.posed.scenes import Scene
from datamodules.posed.view_choice import ViewChoice, positions_of
from datamodules.posed.views import Roles


class TwoEnds(ViewChoice):
    """Choose the first context at one end, the target at the other, further contexts and novel views in between.

    Args:
        contexts: number of context views.
        novel: number of novel views in a training or validation item.
        distance: least and greatest number of frames between the first context and the target. Scenes that are too
            short use their ends.
    """

    def draw(self, scene: Scene) -> Roles:
        """Draw the roles of a training item; see `draw_roles`."""
        positions = positions_of(scene, self.contexts + 1 + self.novel)
        return draw_roles(positions, self.contexts, self.novel, self.distance)

    def choose(self, scene: Scene, novel: int) -> Roles:
        """Choose the roles of an evaluation item; see `choose_roles`."""
        positions = positions_of(scene, self.contexts + 1)
        novel = min(novel, len(positions) - self.contexts - 1)
        return choose_roles(positions, self.contexts, novel, self.distance)


def draw_roles(positions: list[int], contexts: int, novel: int, distance: tuple[int, int]) -> Roles:
    """Draw the roles of a training item from torch's global generator.

    The target's distance from the first context is drawn from `distance`; further contexts and novel views lie
    between the two. The direction of time is random.

    Args:
        positions: positions of the frames that can be used, in order; at least contexts + 1 + novel.
        contexts: number of context views.
        novel: number of novel views.
        distance: least and greatest number of frames between first context and target. A scene in which no two
            frames are that far apart uses its first and its last.
    """
    if torch.rand(()) < 0.5:
        positions = positions[::-1]
    start, end = _draw_ends(positions, distance, contexts - 1 + novel)
    between = positions[start + 1 : end]
    chosen = [between[i] for i in torch.randperm(len(between))[: contexts - 1 + novel].tolist()]
    return Roles([positions[start], *chosen[: contexts - 1]], positions[end], chosen[contexts - 1 :])


def _draw_ends(positions: list[int], distance: tuple[int, int], between: int) -> tuple[int, int]:
    """Draw the indices of the first context and the target, with at least this many frames between them."""
    elapsed = np.abs(np.array(positions) - positions[0])
    earliest = np.maximum(np.searchsorted(elapsed, elapsed + distance[0]), np.arange(len(elapsed)) + between + 1)
    choices = np.searchsorted(elapsed, elapsed + distance[1], side="right") - earliest
    starts = np.flatnonzero(choices > 0)
    if not len(starts):
        return 0, len(positions) - 1
    start = int(starts[int(torch.randint(len(starts), ()))])
    return start, int(earliest[start]) + int(torch.randint(int(choices[start]), ()))


def choose_roles(positions: list[int], contexts: int, novel: int, distance: tuple[int, int]) -> Roles:
    """Choose the roles of an evaluation item without an index.

    The context is the first frame, the target lies at the middle of `distance` (closer in a short scene), the rest
    are spread evenly between the two.
    """
    middle = positions[0] + (distance[0] + distance[1]) // 2
    end = max(contexts + novel, sum(position <= middle for position in positions) - 1)
    between = spread(positions[1:end], contexts - 1 + novel)
    return Roles([positions[0], *between[novel:]], positions[end], between[:novel])


def spread(positions: list[int], count: int) -> list[int]:
    """Take this many of the given positions, evenly spaced; all if there are fewer."""
    count = min(count, len(positions))
    return [positions[int((part + 0.5) * len(positions) / count)] for part in range(count)]
