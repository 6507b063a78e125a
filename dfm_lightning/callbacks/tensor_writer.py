"""The most general writer: arrays, and pictures if the observation is one."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dfm_lightning.callbacks.next_observation import Candidates, stacked
from dfm_lightning.callbacks.output import (
    Panel,
    Picture,
    Video,
    images_to_uint8,
    panel_of,
    write_panels,
    write_png,
)
from dfm_lightning.callbacks.prediction_writer import PredictionWriter
from dfm_lightning.files import whole_file
from dfm_lightning.types import Prediction, map_tensors, named_tensors

OVERVIEW = "overview.png"


class TensorWriter(PredictionWriter):
    """Write each sample as `sample.npz`, and as pictures.

    The arrays are `observation`; those of the signal, named by their place in it: `signal`, or `signal.flow` and
    so on; `context` and `context_params`; the parameters of `observation` (`params`); and what is known to be true
    (`truth.NAME`). They are stored in float32 where NumPy does not know their type (bfloat16).

    `overview.png` shows signal, observations, context and truth side by side: images with their scale, curves as
    plots, a few numbers as bars. Observations with 1 or 3 channels are also written as PNG files of their own.
    """

    def write(self, prediction: Prediction, folder: Path) -> None:
        """See `PredictionWriter`."""
        arrays = arrays_of(prediction)
        with whole_file(folder / "sample.npz") as aside, aside.open("wb") as file:
            # (NumPy annotates the names as if one could be `allow_pickle`.)
            np.savez(file, **arrays)  # type: ignore[arg-type]
        panels = panels_of(arrays)
        if panels:
            write_panels(folder / OVERVIEW, panels)
        write_images(folder, "context", prediction.context.observation[0])
        write_images(folder, "observation", prediction.observation)

    def figures(self, folder: Path) -> list[Picture | Video]:
        """See `PredictionWriter`: the overview first."""
        overview = [Picture(path, "overview") for path in [folder / OVERVIEW] if path.exists()]
        return [*overview, *(figure for figure in super().figures(folder) if figure.path.name != OVERVIEW)]

    def candidates(self, folders: list[Path]) -> Candidates | None:
        """See `PredictionWriter`: the parameters of the observations."""
        observations = stacked([read_array(folder / "sample.npz", "observation") for folder in folders])
        if observations is None:
            return None
        return Candidates([{"view": number} for number in range(observations.shape[1])], observations)


def arrays_of(prediction: Prediction) -> dict[str, np.ndarray]:
    """Return all tensors of a prediction by name; context, parameters and truth without their batch of one."""
    alone = map_tensors(lambda tensor: tensor[0], (prediction.context, prediction.params, prediction.truth))
    context, params, truth = alone
    tensors = {
        **dict(named_tensors(prediction.signal, "signal")),
        "observation": prediction.observation,
        "context": context.observation,
        **dict(named_tensors(context.params, "context_params")),
        **dict(named_tensors(params, "params")),
        **dict(named_tensors(truth, "truth")),
    }
    return {name: as_array(tensor) for name, tensor in tensors.items()}


def panels_of(arrays: dict[str, np.ndarray]) -> list[Panel]:
    """Choose what the overview shows: signal and truth, and each view of observation and context."""
    shown = {}
    for name, array in arrays.items():
        kind = name.split(".")[0]
        if kind == "signal":
            shown[name] = array[0]
        elif kind == "truth":
            shown[name] = array
        elif name in ("observation", "context"):
            shown |= {f"{name} {number}": view for number, view in enumerate(array)}
    panels = (panel_of(name, array) for name, array in shown.items())
    return [panel for panel in panels if panel is not None]


def as_array(tensor: Tensor) -> np.ndarray:
    """Convert a tensor to an array; to float32 if NumPy does not know its precision."""
    known = tensor.dtype != torch.bfloat16
    return (tensor if known else tensor.float()).detach().cpu().numpy()


def read_array(path: Path, name: str) -> Tensor:
    """Read one array of a file."""
    with np.load(path, allow_pickle=False) as stored:
        return torch.from_numpy(stored[name])


def write_images(folder: Path, name: str, images: Tensor) -> None:
    """Write images [v c h w] in [-1, 1] as `name_00.png` and so on; nothing if they are not images."""
    if images.ndim == 4 and images.shape[1] in (1, 3) and min(images.shape[-2:]) > 1:
        for number, image in enumerate(images_to_uint8(images)):
            write_png(folder / f"{name}_{number:02}.png", image)
