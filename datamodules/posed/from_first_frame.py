"""A choice of views for tasks that always start from a sequence's first frame."""

import numpy as np
import torch

from datamodules.posed.scenes import Scene
from datamodules.posed.two_ends import spread
from datamodules.posed.view_choice import ViewChoice, positions_of
from datamodules.posed.views import Roles


class FromFirstFrame(ViewChoice):
    """Choose the first usable frame as first context, in training too; all other views are anywhere.

    If first frames differ from others, so does what they leave open: here no first frame shows the back of the
    object, or the room behind the door. A model that trains with any frame as its context spends most of its
    examples on questions that are never asked.

    Args:
        contexts: number of context views in a training item. Evaluation has one.
        novel: number of novel views in a training or validation item.
        distance: least and greatest number of frames from the first frame to the target; evaluation takes their
            middle. In shorter scenes the target is the last frame.
    """

    def draw(self, scene: Scene) -> Roles:
        """Draw target, further contexts and novel views from torch's global generator, all different."""
        first, *rest = positions_of(scene, self.contexts + 1 + self.novel)
        choices = _targets(first, rest, self.distance)
        target = choices[int(torch.randint(len(choices), ()))]
        others = [position for position in rest if position != target]
        order = torch.randperm(len(others))[: self.contexts - 1 + self.novel].tolist()
        chosen = [others[index] for index in order]
        return Roles([first, *chosen[: self.contexts - 1]], target, chosen[self.contexts - 1 :])

    def choose(self, scene: Scene, novel: int) -> Roles:
        """Choose the first frame, a target, and novel views evenly spread over the other frames.

        A target that a benchmark prescribes is kept.
        """
        first, *rest = positions_of(scene, 2)
        prescribed = [position for position in scene.prescribed if position != first]
        middle = first + sum(self.distance) // 2
        # The nearest frame to the middle of the distances.
        nearest = rest[int(np.abs(np.array(rest) - middle).argmin())]
        target = prescribed[0] if prescribed else nearest
        return Roles([first], target, spread([position for position in rest if position != target], novel))


def _targets(first: int, rest: list[int], distance: tuple[int, int]) -> list[int]:
    """List the frames that are as far from the first as asked; the last one if there are none."""
    low, high = distance
    return [position for position in rest if low <= position - first <= high] or rest[-1:]
