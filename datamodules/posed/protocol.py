"""The scenes, and their frames, that an evaluation takes: by a choice of views, or by an index."""

from abc import ABC, abstractmethod
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from datamodules.image_files import UnreadableError
from datamodules.posed.evaluation_index import known_scenes, read_evaluation_index
from datamodules.posed.scenes import MissingScenes, Scene
from datamodules.posed.view_choice import ViewChoice
from datamodules.posed.views import Roles
from dfm_lightning.wording import counted


class Protocol(ABC):
    """A choice of scenes, and of frames in them."""

    @abstractmethod
    def keys(self, known: list[str]) -> list[str]:
        """List the scenes to take among those that exist, in order of preference."""

    @abstractmethod
    def roles(self, scene: Scene) -> Roles:
        """Choose the frames of a scene. Raises UnreadableError if it lacks them."""


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
        """List all scenes."""
        self.choice.begin(known)
        return known

    def roles(self, scene: Scene) -> Roles:
        """Choose the frames of a scene. Raises UnreadableError if it has too few."""
        return self.choice.choose(scene, self.novel)


class IndexedViews(Protocol):
    """The scenes and frames of an evaluation index.

    Args:
        path: the index's file.
        contexts: number of an entry's contexts that are given, from the first.
        missing: what to do about scenes that the data set lacks.
    """

    def __init__(self, path: Path, contexts: int, missing: MissingScenes) -> None:
        self.path = path
        self.contexts = contexts
        self.missing = missing
        self.index = read_evaluation_index(path)

    def keys(self, known: list[str]) -> list[str]:
        """List the scenes of the index. Raises UserError if some are missing, unless they may be skipped."""
        keys = known_scenes(self.index, self.path, set(known), self.missing == "skip")
        absent = len(self.index.entries) - len(keys)
        rank_zero_info(
            f"{self.path}: {counted(len(keys), 'scene')}; left out: {self.index.nulls} without frames (null), "
            f"{absent} that the data set lacks"
        )
        return keys

    def roles(self, scene: Scene) -> Roles:
        """Return the frames of the scene's entry. Raises UnreadableError if one has no camera."""
        roles = self.index.entries[scene.key].roles(self.contexts)
        cameras = scene.has_camera().tolist()
        bad = [p for p in roles.positions() if p >= len(cameras) or not cameras[p]]
        if bad:
            raise UnreadableError(f"scene {scene.key}: no camera at position {bad[0]} of {len(cameras)}")
        return roles
