"""Write sampled codes of a generator and their images."""

from pathlib import Path

import numpy as np
from PIL import Image

from dfm_lightning.callbacks.output import Picture, Video, image_to_uint8, labelled_grid, write_png
from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.callbacks.prediction_writer import PredictionWriter
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file
from dfm_lightning.tasks import SampledCode
from dfm_lightning.types import Prediction

# More would make the grid too large to take in.
MOST_ROWS, MOST_SAMPLES = 12, 8
CONTEXT, SMALL, FULL = "patch.png", "image.png", "image_full.png"


class CodeWriter(PredictionWriter):
    """Write each sampled code as `code.npz`, with its image.

    `code.npz` holds `code`: one row for all layers of the generator (w), or one for each layer (w+). `image.png`
    is its image at the diffused size, `image_full.png` at the generator's own resolution, `patch.png` the visible
    patch. In the output folder, `grid.png` shows the first patches in rows, each beside its samples.

    Args:
        output: folder to write into.
        overwrite: replace samples made with other settings, instead of stopping.
    """

    def write(self, prediction: Prediction, folder: Path) -> None:
        """See `PredictionWriter`."""
        signal = prediction.signal
        if not isinstance(signal, SampledCode):
            raise UserError(f"CodeWriter writes sampled codes, got {type(signal).__name__}: use TensorWriter")
        with whole_file(folder / "code.npz") as aside, aside.open("wb") as file:
            np.savez(file, code=signal.code[0].float().cpu().numpy())
        images = {
            CONTEXT: prediction.context.observation[0, 0],
            SMALL: prediction.observation[0],
            FULL: signal.image,
        }
        for name, image in images.items():
            write_png(folder / name, image_to_uint8(image))

    def figures(self, folder: Path) -> list[Picture | Video]:
        """See `PredictionWriter`."""
        return [Picture(folder / name, name.removesuffix(".png")) for name in (CONTEXT, SMALL, FULL)]

    def overview(self, samples: dict[str, list[Path]]) -> list[Picture | Video]:
        """See `PredictionWriter`: `grid.png`."""
        shown = list(samples.items())[:MOST_ROWS]
        columns = min(MOST_SAMPLES, max(len(folders) for _, folders in shown))
        size = max(max(_read(folders[0] / name).shape[0] for name in (CONTEXT, FULL)) for _, folders in shown)
        rows: list[list[RGB | None]] = []
        for _, folders in shown:
            row: list[RGB | None] = [_read(folders[0] / CONTEXT, size)]
            row += [_read(folder / FULL, size) for folder in folders[:columns]]
            rows.append(row + [None] * (columns + 1 - len(row)))
        labels = ["patch", *(f"sample {number + 1}" for number in range(columns))]
        path = self.output / "grid.png"
        write_png(path, labelled_grid(rows, labels, [key[:12] for key, _ in shown]))
        return [Picture(path, "patches, and images of the codes sampled for them")]


def _read(path: Path, size: int | None = None) -> RGB:
    """Read an existing picture, resized without blurring its pixels."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
        return np.asarray(picture if size is None else picture.resize((size, size), Image.Resampling.NEAREST))
