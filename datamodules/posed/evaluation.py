"""Evaluation and prediction: the same views of each scene every time, all checked to be readable."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.image_files import UnreadableError
from datamodules.posed.scenes import Scene, SceneReader
from datamodules.posed.views import Roles, make_request, read_batch, read_images
from dfm_lightning.errors import UserError
from dfm_lightning.types import Batch, Request
from dfm_lightning.wording import counted


class EvaluationItem(NamedTuple):
    """The frames of a scene in their roles."""

    key: str
    roles: Roles


KnownTruth = Callable[[Scene, list[int], int], dict[str, Tensor]]
"""Reads what is known of the views at positions of a scene, as squares of a size: see `Batch.truth`.

It may raise UnreadableError. Worker processes are sent it.
"""


def nothing_known(scene: Scene, positions: list[int], size: int) -> dict[str, Tensor]:
    """Return the empty truth of views of a real scene."""
    return {}


class EvaluationScenes(Dataset):
    """The same views of each scene every time, and what is known of them; with `masks`, their foreground masks."""

    def __init__(
        self,
        reader: SceneReader,
        items: list[EvaluationItem],
        image_size: int,
        masks: bool = False,
        known: KnownTruth = nothing_known,
    ) -> None:
        self.reader = reader
        self.items = items
        self.image_size = image_size
        self.masks = masks
        self.known = known

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Batch:
        key, roles = self.items[index]
        try:
            scene = self.reader.scene(key)
            batch = read_batch(scene, roles, self.image_size, masks=self.masks)
            known = self.known(scene, roles.positions(), self.image_size)
            return batch._replace(truth={**batch.truth, **known})
        except UnreadableError as error:
            raise UserError(f"{error} (it was readable before the run: it has changed since)") from None


MakePath = Callable[[Scene, Roles], Float[Tensor, "n 4 4"]]
"""The absolute poses to be seen in a prediction."""


class PathRequests(Dataset):
    """The context of each scene, and the path to view it along."""

    def __init__(
        self, reader: SceneReader, items: list[EvaluationItem], path: MakePath, image_size: int, output_size: int
    ) -> None:
        self.reader = reader
        self.items = items
        self.path = path
        self.image_size = image_size
        self.output_size = output_size

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Request:
        key, roles = self.items[index]
        try:
            scene = self.reader.scene(key)
            context = read_images(scene, roles.context, self.image_size)
            path = self.path(scene, roles)
        except UnreadableError as error:
            raise UserError(f"{error} (it was readable before the run: it has changed since)") from None
        return make_request(key, context, path, self.output_size)


class Selection(NamedTuple):
    """Evaluation items whose files have all been read once, and the reasons why other scenes are left out."""

    items: list[EvaluationItem]
    skipped: list[str]


def readable_items(
    reader: SceneReader,
    keys: list[str],
    choose: Callable[[Scene], Roles],
    count: int | None,
    read: Callable[[Scene, Roles], object],
) -> Selection:
    """Select the first scenes that can be read, up to a number.

    Everything needed is decoded once, before hours of sampling depend on it.

    Args:
        reader: the scenes.
        keys: scenes in order of preference.
        choose: chooses a scene's roles, or raises UnreadableError.
        count: number of scenes wanted; all if None.
        read: reads what is needed of a scene, or raises UnreadableError.
    """
    items: list[EvaluationItem] = []
    skipped = []
    wanted = len(keys) if count is None else count
    for key in track(keys, "Reading the frames to be used", disable=len(keys) < 100):
        if len(items) == wanted:
            break
        try:
            scene = reader.scene(key)
            roles = choose(scene)
            read(scene, roles)
            items.append(EvaluationItem(key, roles))
        except UnreadableError as error:
            skipped.append(str(error))
    return Selection(items, skipped)


def with_most_views(items: list[EvaluationItem]) -> list[EvaluationItem]:
    """Leave out scenes with fewer novel views than others: all scenes of a batch have the same number."""
    most = max(len(item.roles.novel) for item in items)
    alike = [item for item in items if len(item.roles.novel) == most]
    if len(alike) < len(items):
        left_out = next(item.key for item in items if len(item.roles.novel) < most)
        rank_zero_warn(
            f"left out: {len(items) - len(alike)} of {len(items)} validation scenes, which have too few frames "
            f"for {counted(most, 'novel view')}, such as {left_out}"
        )
    return alike
