"""The contract of a choice of views: which frames of a scene are context, target and novel views."""

from abc import ABC, abstractmethod

from datamodules.image_files import UnreadableError
from datamodules.posed.scenes import Scene
from datamodules.posed.views import Roles
from dfm_lightning.ranges import check_ascending, check_at_least
from dfm_lightning.wording import counted


class ViewChoice(ABC):
    """A choice of frames for each role: random in training, fixed in evaluation.

    Args:
        contexts: number of context views.
        novel: number of novel views in a training or validation item.
        distance: least and greatest number of frames from one view to another; subclasses say which views.
    """

    def __init__(self, contexts: int = 1, novel: int = 1, distance: tuple[int, int] = (20, 40)) -> None:
        check_at_least(1, contexts=contexts)
        check_at_least(0, novel=novel)
        check_ascending(1, distance=distance)
        self.contexts = contexts
        self.novel = novel
        self.distance = distance

    def begin(self, keys: list[str]) -> None:  # noqa: B027  # most choices need not know
        """Take all scenes of an evaluation, in their order, for choices that depend on a scene's place."""

    @abstractmethod
    def draw(self, scene: Scene) -> Roles:
        """Draw the roles of a training item from torch's global generator.

        Raises:
            UnreadableError: the scene has too few frames.
        """

    @abstractmethod
    def choose(self, scene: Scene, novel: int) -> Roles:
        """Choose the roles of an evaluation item, with this many novel views or as many as there are.

        Raises:
            UnreadableError: the scene has too few frames.
        """


def positions_of(scene: Scene, least: int) -> list[int]:
    """List the positions that views are chosen from. Raises UnreadableError if there are fewer than `least`."""
    positions = scene.usable_positions()
    if len(positions) < least:
        raise UnreadableError(
            f"scene {scene.key}: {counted(len(positions), 'usable frame')}, but {least} are needed"
        )
    return positions
