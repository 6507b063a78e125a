"""A choice of views for sequences around an object: contexts follow one another, going back from the target."""

from typing import Literal

import numpy as np
import torch

from datamodules.posed.scenes import Scene
from datamodules.posed.view_choice import ViewChoice, positions_of
from datamodules.posed.views import Roles

NovelFrames = Literal["between", "anywhere"]


class BackFromTarget(ViewChoice):
    """Choose contexts one behind the other, going back from the target; evaluation takes one context.

    Args:
        contexts: number of context views in a training item.
        novel: number of novel views in a training or validation item.
        distance: least and greatest number of frames between the target and the nearest context, and between
            contexts; reduced in sequences that are too short.
        novel_frames: where training takes novel views from: between the target and a context, or anywhere.
    """

    def __init__(
        self,
        contexts: int = 1,
        novel: int = 1,
        distance: tuple[int, int] = (20, 40),
        novel_frames: NovelFrames = "between",
    ) -> None:
        super().__init__(contexts, novel, distance)
        self.novel_frames: NovelFrames = novel_frames

    def draw(self, scene: Scene) -> Roles:
        """Draw the roles of a training item; see `draw_roles`."""
        positions = positions_of(scene, self.contexts + 1)
        roles = draw_roles(len(positions), self.contexts, self.novel, self.distance, self.novel_frames)
        return Roles(
            [positions[index] for index in roles.context],
            positions[roles.target],
            [positions[index] for index in roles.novel],
        )

    def choose(self, scene: Scene, novel: int) -> Roles:
        """Choose the roles of an evaluation item; see `choose_roles`."""
        return choose_roles(positions_of(scene, 2), list(scene.prescribed), novel, self.distance)


def distance_range(frames: int, contexts: int, distance: tuple[int, int]) -> tuple[int, int]:
    """Return `distance`, reduced if `contexts` steps of it exceed the sequence."""
    high = max(1, min(distance[1], (frames - 1) // contexts))
    return max(1, min(distance[0], high)), high


def draw_roles(
    frames: int,
    contexts: int,
    novel: int,
    distance: tuple[int, int],
    novel_frames: NovelFrames = "between",
) -> Roles:
    """Draw the roles of a training item from torch's global generator.

    Going back from the target, context views follow at distances drawn from `distance`, the nearest first. With
    all contexts, the first frame and the target are as far apart as in the original code (20 to 40 frames for each
    context); a step that uses only some takes the nearest. A novel view lies between the target and one of the
    contexts. The direction of time is random.

    Args:
        frames: length of the sequence, more than `contexts`.
        contexts: number of context views.
        novel: number of novel views.
        distance: least and greatest number of frames between neighbouring views; reduced in short sequences.
        novel_frames: where novel views come from.
    """
    low, high = distance_range(frames, contexts, distance)
    back = torch.randint(low, high + 1, (contexts,)).cumsum(dim=0).tolist()
    target = back[-1] + _draw(frames - back[-1])
    context = [target - steps for steps in back]
    if novel_frames == "between":
        unseen = [_draw_between(context[_draw(contexts)], target) for _ in range(novel)]
    else:
        unseen = [_draw(frames) for _ in range(novel)]
    if torch.rand(()) < 0.5:
        last = frames - 1
        context, target, unseen = [last - c for c in context], last - target, [last - u for u in unseen]
    return Roles(context, target, unseen)


def choose_roles(eligible: list[int], given: list[int], novel: int, distance: tuple[int, int]) -> Roles:
    """Choose the roles of an evaluation item: one context, one target, and novel views evenly around the object.

    A given target and context are used. A target given alone has its context at the middle of `distance` before it
    (after it, if there is no frame before). If neither is given, the context is the first eligible frame, and the
    target lies as far behind it, but no further than a third of the frames.

    Args:
        eligible: positions of the frames that views are chosen from, at least two.
        given: positions of the target and the context that a benchmark prescribes, if any.
        novel: number of novel views; fewer if there are no more frames.
        distance: as in training.
    """
    moderate = min((distance[0] + distance[1]) // 2, max(1, len(eligible) // 3))
    if not given:
        context, target = eligible[0], eligible[moderate]
    elif len(given) == 1:
        target = given[0]
        context = target - moderate if target >= moderate else target + moderate
    else:
        target, context = given
    rest = [position for position in eligible if position not in (context, target)]
    count = min(novel, len(rest))
    # The middles of equal parts, so that no novel view is next to a context at the beginning.
    chosen = ((np.arange(count) + 0.5) / max(count, 1) * len(rest)).astype(int)
    return Roles([context], target, [rest[index] for index in chosen])


def _draw(count: int) -> int:
    return int(torch.randint(count, ()))


def _draw_between(first: int, last: int) -> int:
    """Draw a position strictly between two; take the first if they are neighbours."""
    return first + (1 + _draw(last - first - 1) if last - first > 1 else 0)
