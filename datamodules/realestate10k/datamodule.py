"""`RealEstate10kDataModule`: RealEstate10k in any of its forms, a capture or a photograph, for Lightning."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from datamodules.hidden_looks import HIDDEN_MASKS, HiddenLooks, open_looks
from datamodules.posed.datamodule import PosedImagesDataModule
from datamodules.posed.evaluation import KnownTruth, nothing_known
from datamodules.posed.scenes import Scene, SceneReader, Split
from datamodules.posed.two_ends import TwoEnds
from datamodules.posed.view_choice import ViewChoice
from datamodules.realestate10k.forms import open_reader
from dfm_lightning.errors import UserError

_VIEWS = partial(TwoEnds, distance=(100, 180))


class RealEstate10kDataModule(PosedImagesDataModule):
    """RealEstate10k, or pictures of your own: `Batch`es of camera views, `Request`s of camera paths.

    Images are cropped to their central square and resized; intrinsics are adjusted. Lengths are those of the data
    set.

    Args:
        root: folder with RealEstate10k in the official form, in chunks (.torch) or with .mat files; or, for test
            and predict, a capture with transforms.json, a COLMAP sparse model or poses_bounds.npy. The form is
            detected.
        image_size: height and width of the views in pixels.
        batch_size: training and validation scenes in a batch of each process. Test and predict take one.
        workers: processes that read images, for each process that trains.
        views: which frames of a scene are context, target and novel views; by default one context, the target 100
            to 180 frames away, and a novel view between them. Of the contexts of an evaluation index, the first
            are given, as many as `views` has.
        scene_depth: distance, in scene units, of the centre of the photograph, of what a capture typically shows,
            or of the point that a camera move circles.
        common: the settings that all data sets of posed images share.
    """

    stock_parts: ClassVar[dict[str, Callable[..., ViewChoice]]] = {"views": _VIEWS}

    def __init__(
        self,
        root: str | None = None,
        image_size: int = 64,
        batch_size: int = 3,
        workers: int = 4,
        views: ViewChoice | None = None,
        scene_depth: float = 3.0,
        **common: Any,
    ) -> None:
        self.root = None if root is None else Path(root)
        self.source = str(root)
        super().__init__(
            reader=partial(_open, self.root, scene_depth),
            views=views or _VIEWS(),
            image_size=image_size,
            batch_size=batch_size,
            workers=workers,
            scene_depth=scene_depth,
            **common,
        )

    def hidden_looks(self) -> HiddenLooks | None:
        """See `PosedImagesDataModule`: synthetic rooms have a truth file."""
        return None if self.root is None else open_looks(self.root)

    def known_truth(self, split: Split) -> KnownTruth:
        """See `PosedImagesDataModule`: for tests of synthetic rooms, what is hidden behind the door."""
        looks = self.hidden_looks() if split == "test" else None
        if looks is None or self.root is None:
            return nothing_known
        return partial(_known_of_views, looks, self.root / HIDDEN_MASKS / split)


def _known_of_views(
    looks: HiddenLooks, folder: Path, scene: Scene, positions: list[int], size: int
) -> dict[str, Tensor]:
    """Read the look of a scene's hidden part, and which pixels of its views show it. Raises UnreadableError."""
    masks = [folder / scene.key / f"{scene.frame_names[position]}.png" for position in positions]
    return looks.truth(scene.key, masks, size)


def _open(root: Path | None, scene_depth: float, split: Split) -> SceneReader:
    if root is None:
        raise UserError("data.root must name a folder of RealEstate10k or a capture (or data.image a photograph)")
    return open_reader(root, split, scene_depth)
