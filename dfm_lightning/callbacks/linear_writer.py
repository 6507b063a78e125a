"""Write images drawn for linear measurements, with mean, standard deviation and principal directions."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.callbacks.next_observation import Candidates, stacked
from dfm_lightning.callbacks.output import Picture, Video, image_to_uint8, write_png
from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.callbacks.prediction_writer import PredictionWriter
from dfm_lightning.callbacks.tensor_writer import read_array
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file
from dfm_lightning.forward_models.linear import one_a_view
from dfm_lightning.tasks import LinearSolution
from dfm_lightning.types import Prediction

# The standard deviations along a principal direction that a strip shows.
_STRIP = (-2, -1, 0, 1, 2)
MEASURED, IMAGE, MEAN = "measured.png", "image.png", "mean.png"


class LinearWriter(PredictionWriter):
    """Write each drawn image as `image.png`, with summaries of all images that fit the measurement.

    `measured.png` is A†y, `mean.png` the estimate of the posterior's mean. `direction_1.png` and so on show the
    mean moved by −2 to 2 standard deviations along a principal direction. `solution.npz` holds `image`, `mean`,
    `directions` [k c h w] (each as long as its standard deviation), and `measurement`. In the output folder,
    `deviation_….png` shows the pixelwise standard deviation of the images drawn for each measurement.

    Args:
        output: folder to write into.
        overwrite: replace samples made with other settings, instead of stopping.
    """

    def write(self, prediction: Prediction, folder: Path) -> None:
        """See `PredictionWriter`."""
        signal = prediction.signal
        if not isinstance(signal, LinearSolution):
            raise UserError(f"LinearWriter writes solutions, got {type(signal).__name__}: use TensorWriter")
        measurement = prediction.context.observation[:, 0]
        back = one_a_view(prediction.context.params.operator).pseudo_inverse(measurement)[0]
        with whole_file(folder / "solution.npz") as aside, aside.open("wb") as file:
            np.savez(
                file,
                image=_array(signal.image[0]),
                mean=_array(signal.mean),
                directions=_array(signal.directions),
                measurement=_array(measurement[0]),
            )
        for name, image in ((MEASURED, back), (IMAGE, signal.image[0]), (MEAN, signal.mean)):
            write_png(folder / name, image_to_uint8(image))
        for number, direction in enumerate(signal.directions, start=1):
            write_png(folder / f"direction_{number}.png", strip(signal.mean, direction))

    def figures(self, folder: Path) -> list[Picture | Video]:
        """See `PredictionWriter`."""
        names = [MEASURED, IMAGE, MEAN, *sorted(path.name for path in folder.glob("direction_*.png"))]
        return [Picture(folder / name, name.removesuffix(".png")) for name in names]

    def overview(self, samples: dict[str, list[Path]]) -> list[Picture | Video]:
        """See `PredictionWriter`: standard deviations."""
        figures: list[Picture | Video] = []
        for key, folders in samples.items():
            images = [read_array(folder / "solution.npz", "image") for folder in folders]
            if len(images) > 1:
                path = self.output / f"deviation_{folders[0].parent.name}.png"
                # Black is 0, white a standard deviation of half the range.
                deviation = torch.stack(images).std(dim=0).clamp(max=1) * 2 - 1
                write_png(path, image_to_uint8(deviation))
                figures.append(Picture(path, f"{key}: standard deviation"))
        return figures

    def candidates(self, folders: list[Path]) -> Candidates | None:
        """See `PredictionWriter`: the pixels."""
        images = stacked([read_array(folder / "solution.npz", "image") for folder in folders])
        if images is None:
            return None
        rows, columns = images.shape[2:]
        names = [{"row": row, "column": column} for row in range(rows) for column in range(columns)]
        return Candidates(names, images.flatten(2).mT)


def strip(mean: Float[Tensor, "c h w"], direction: Float[Tensor, "c h w"]) -> RGB:
    """Show the mean moved by −2 to 2 standard deviations along a principal direction, side by side."""
    return image_to_uint8(torch.cat([mean + step * direction for step in _STRIP], dim=-1))


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
