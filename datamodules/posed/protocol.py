"""Which scenes, and which frames of them, an evaluation takes: by a choice of views, or by an index."""

from abc import ABC, abstractmethod
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from datamodules.image_files import UnreadableError
from datamodules.posed.evaluation_index import known_scenes, read_evaluation_index
from datamodules.posed.scenes import MissingScenes, Scene
from datamodules.posed.view_choice import ViewChoice
from datamodules.posed.views import Roles


class Protocol(ABC):
    """Chooses scenes, and frames in them."""

    @abstractmethod
    def keys(self, known: list[str]) -> list[str]:
        """List the scenes to take, of those that there are, in the order in which they are wanted."""

    @abstractmethod
    def roles(self, scene: Scene) -> Roles:
        """Choose the frames of a scene. Raises UnreadableError where it does not have them."""


class ChosenViews(Protocol):
    """All scenes, with the frames of a choice of views.

    Args:
        choice: chooses the frames of a scene.
        novel: number of novel views, fewer in short scenes.
    """

    def __init__(self, choice: ViewChoice, novel: int) -> None:
        self.choice = choice
        self.novel = novel

    def keys(self, known: list[str]) -> list[str]:
        """Take all of them."""
        return known

    def roles(self, scene: Scene) -> Roles:
        """Choose the frames of a scene. Raises UnreadableError where it has too few."""
        return self.choice.choose(scene, self.novel)


class IndexedViews(Protocol):
    """The scenes and frames of an evaluation index.

    Args:
        path: the index's file.
        contexts: the first so many contexts of an entry are given.
        missing: what to do about scenes that are not there.
    """

    def __init__(self, path: Path, contexts: int, missing: MissingScenes) -> None:
        self.path = path
        self.contexts = contexts
        self.missing = missing
        self.index = read_evaluation_index(path)

    def keys(self, known: list[str]) -> list[str]:
        """Take those of the index. Raises UserError if some are not there, unless they may be left out."""
        keys = known_scenes(self.index, self.path, set(known), self.missing == "skip")
        absent = len(self.index.entries) - len(keys)
        rank_zero_info(
            f"{self.path}: {len(keys)} scenes, without {self.index.nulls} that it gives no frames for (null) and "
            f"{absent} that are not there"
        )
        return keys

    def roles(self, scene: Scene) -> Roles:
        """Take the frames of the scene's entry. Raises UnreadableError where they have no camera."""
        roles = self.index.entries[scene.key].roles(self.contexts)
        cameras = scene.has_camera().tolist()
        bad = [p for p in roles.positions() if p >= len(cameras) or not cameras[p]]
        if bad:
            raise UnreadableError(f"scene {scene.key}: no camera at position {bad[0]}, {len(cameras)} altogether")
        return roles
