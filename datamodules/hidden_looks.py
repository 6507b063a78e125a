"""The hidden looks of synthetic scenes: the distribution they were drawn from, and the look of each scene.

The generators write truth.json beside a data set, and masks of the pixels that show the hidden part.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from datamodules.image_files import open_picture
from datamodules.json_files import read_json
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.images import centre_box, crop_and_resize
from dfm_lightning.types import LookLaw

TRUTH_FILE = "truth.json"
# The folder of masks, of a sequence or of the whole data set.
HIDDEN_MASKS = "hidden_masks"
# Names under which the generators store the colours of the looks, and the scenes.
_COLOURS = ("reflectance", "colours")
_SCENES = ("sequences", "scenes")
# How far a sum of written probabilities may be from 1.
_ROUNDING = 1e-3


class HiddenLooks(NamedTuple):
    """The distribution of the looks in a data set, and the number of each scene's look by the scene's name."""

    law: LookLaw
    looks: dict[str, int]

    def truth(self, scene: str, masks: list[Path], size: int) -> dict[str, Tensor]:
        """Read the entries of `Batch.truth` that describe a scene's look (see `LookLaw`); none for an unknown
        scene.

        Args:
            scene: name of the scene.
            masks: the mask of each view, in the order context, target, novel.
            size: side of the square views.

        Raises:
            UnreadableError: a mask is missing or damaged.
        """
        if scene not in self.looks:
            return {}
        hidden = torch.stack([read_hidden_mask(path, size) for path in masks])
        return {"look": torch.tensor(self.looks[scene]), "hidden": hidden}


def open_looks(root: Path) -> HiddenLooks | None:
    """Read the truth of a data set; return None for a real data set, which has none.

    Raises:
        UserError: the file is damaged.
    """
    path = root / TRUTH_FILE
    if not path.exists():
        return None
    try:
        truth = read_json(path)
        attribute, law = truth["attribute"], truth["distribution"]
        colours = next(truth[name] for name in _COLOURS if name in truth)
        scenes = next(truth[name] for name in _SCENES if name in truth)
        names = list(law)
        shown = torch.tensor([colours[name] for name in names], dtype=torch.float32)
        if shown.shape != (len(names), 3) or not ((shown >= 0) & (shown <= 1)).all():
            raise ValueError(f"expected colours of three numbers in [0, 1], got {shown.tolist()}")
        return HiddenLooks(
            LookLaw(names, shown, torch.tensor(checked_probabilities(list(law.values())))),
            {key: names.index(scene[attribute]) for key, scene in scenes.items()},
        )
    except (OSError, ValueError, LookupError, TypeError, StopIteration, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: not a truth file of synthetic scenes ({error!r})") from None


def checked_probabilities(values: Sequence[float]) -> list[float]:
    """Return the probabilities of a distribution. Raises ValueError or TypeError if they are none."""
    probabilities = [float(value) for value in values]
    # (Negated so that NaN fails too.)
    if not all(value >= 0 for value in probabilities) or not abs(sum(probabilities) - 1) < _ROUNDING:
        raise ValueError(f"expected probabilities with the sum 1, got {probabilities}")
    return probabilities


def read_hidden_mask(path: Path, size: int) -> Float[Tensor, "1 {size} {size}"]:
    """Read the share of each pixel that shows the hidden part, cropped and resized like the image."""
    with open_picture(path, str(path)) as picture:
        grey = crop_and_resize(picture.convert("L"), centre_box(*picture.size), size, size)
    return torch.from_numpy(np.array(grey, dtype=np.float32))[None] / 255
