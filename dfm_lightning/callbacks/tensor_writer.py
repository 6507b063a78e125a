"""The most general writer: arrays, and pictures if the observation is one."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dfm_lightning.callbacks.output import images_to_uint8, write_png
from dfm_lightning.callbacks.prediction_writer import PredictionWriter
from dfm_lightning.files import whole_file
from dfm_lightning.types import Prediction, named_tensors


class TensorWriter(PredictionWriter):
    """Write each sample as `sample.npz`, and its observations as PNG files if they are images.

    The arrays are `observation` and those of the signal, named by their place in it: `signal`, or `signal.flow`
    and so on; precisions unknown to NumPy (bfloat16) become float32. Observations with 1 or 3 channels count as
    images.
    """

    def write(self, prediction: Prediction, folder: Path) -> None:
        """See `PredictionWriter`."""
        tensors = dict(named_tensors(prediction.signal, "signal"), observation=prediction.observation)
        arrays = {name: as_array(tensor) for name, tensor in tensors.items()}
        with whole_file(folder / "sample.npz") as aside, aside.open("wb") as file:
            # (NumPy annotates the names as if one could be `allow_pickle`.)
            np.savez(file, **arrays)  # type: ignore[arg-type]
        write_images(folder, "context", prediction.context.observation[0])
        write_images(folder, "observation", prediction.observation)


def as_array(tensor: Tensor) -> np.ndarray:
    """Convert a tensor to an array; to float32 if NumPy does not know its precision."""
    known = tensor.dtype != torch.bfloat16
    return (tensor if known else tensor.float()).detach().cpu().numpy()


def write_images(folder: Path, name: str, images: Tensor) -> None:
    """Write images [v c h w] in [-1, 1] as `name_00.png` and so on; nothing if they are no images."""
    if images.ndim == 4 and images.shape[1] in (1, 3) and min(images.shape[-2:]) > 1:
        for number, image in enumerate(images_to_uint8(images)):
            write_png(folder / f"{name}_{number:02}.png", image)
