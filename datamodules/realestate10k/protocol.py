"""Which scenes, and which frames of them, an evaluation takes: by an index, or regularly."""

from abc import ABC, abstractmethod
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from datamodules.image_files import UnreadableError
from datamodules.realestate10k.evaluation_index import known_scenes, read_evaluation_index
from datamodules.realestate10k.sampling import choose_roles
from datamodules.scenes import MissingScenes, Scene
from datamodules.views import Roles


class Protocol(ABC):
    """Chooses scenes, and frames in them."""

    @abstractmethod
    def keys(self, known: list[str]) -> list[str]:
        """The scenes to take, of those that there are, in the order in which they are wanted."""

    @abstractmethod
    def roles(self, scene: Scene) -> Roles:
        """The frames of a scene. Raises UnreadableError where it does not have them."""


class RegularViews(Protocol):
    """All scenes; the first usable frame is context, those behind it are targets.

    Args:
        contexts: number of context views.
        novel: number of novel views, fewer in short scenes.
        distance: number of frames between context and target, see `choose_roles`.
    """

    def __init__(self, contexts: int, novel: int, distance: tuple[int, int]) -> None:
        self.contexts = contexts
        self.novel = novel
        self.distance = distance

    def keys(self, known: list[str]) -> list[str]:
        return known

    def roles(self, scene: Scene) -> Roles:
        positions = scene.usable_positions()
        if len(positions) <= self.contexts:
            raise UnreadableError(f"scene {scene.key}: {len(positions)} usable frames, too few")
        novel = min(self.novel, len(positions) - self.contexts - 1)
        return choose_roles(positions, self.contexts, novel, self.distance)


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
        keys = known_scenes(self.index, self.path, set(known), self.missing == "skip")
        absent = len(self.index.entries) - len(keys)
        rank_zero_info(
            f"{self.path}: {len(keys)} scenes, without {self.index.nulls} that it gives no frames for (null) and "
            f"{absent} that are not there"
        )
        return keys

    def roles(self, scene: Scene) -> Roles:
        roles = self.index.entries[scene.key].roles(self.contexts)
        cameras = scene.has_camera().tolist()
        bad = [p for p in roles.positions() if p >= len(cameras) or not cameras[p]]
        if bad:
            raise UnreadableError(f"scene {scene.key}: no camera at position {bad[0]}, {len(cameras)} altogether")
        return roles
