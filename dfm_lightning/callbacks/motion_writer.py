"""Write sampled motions: flow, warped image, a looping video."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
from lightning.pytorch import LightningModule, Trainer

from dfm_lightning.callbacks.output import Picture, Video, images_to_uint8, labelled_grid, write_png, write_video
from dfm_lightning.callbacks.output.flow import flow_colours, write_flo
from dfm_lightning.callbacks.prediction_writer import PredictionWriter
from dfm_lightning.callbacks.tensor_writer import write_images
from dfm_lightning.errors import UserError
from dfm_lightning.files import file_name
from dfm_lightning.ranges import check_above, check_at_least
from dfm_lightning.signals import Motion
from dfm_lightning.types import Prediction

# The files that make up the grid of an image's samples, by row.
_GRID_ROWS = {"end": "warped.png", "flow": "flow.png"}


class MotionWriter(PredictionWriter):
    """Write each sampled motion: flow, warped image, and a video.

    The files are `flow.flo`, `flow.png` in the colours of the Middlebury wheel, the image at the motion's end as
    `warped.png`, and `motion.mp4`, which plays to the end and back. Beside the samples of an image, `samples.png`
    shows them side by side.

    Args:
        output: folder to write into.
        frame_rate: frames per second of the videos.
        full_colour: length of the displacements that have full colour, as a share of the image's shorter side.
        overwrite: replace samples made with other settings, instead of stopping.
    """

    def __init__(
        self, output: str, frame_rate: int = 15, full_colour: float = 0.15, overwrite: bool = False
    ) -> None:
        super().__init__(output, overwrite)
        check_at_least(1, frame_rate=frame_rate)
        check_above(0, full_colour=full_colour)
        self.frame_rate = frame_rate
        self.full_colour = full_colour

    def write(self, prediction: Prediction, folder: Path) -> None:
        """See `PredictionWriter`."""
        motion = prediction.signal
        if not isinstance(motion, Motion):
            raise UserError(f"MotionWriter writes motions, got {type(motion).__name__}: use TensorWriter")
        (flow,) = motion.flow
        write_flo(folder / "flow.flo", flow)
        write_png(folder / "flow.png", flow_colours(flow, self.full_colour * min(flow.shape[-2:])))
        frames = images_to_uint8(prediction.observation)
        order = prediction.params.time[0].argsort(stable=True).tolist()
        write_png(folder / "warped.png", frames[order[-1]])
        # There and back, each end shown once: it loops seamlessly.
        write_video(folder / "motion.mp4", frames[order + order[-2:0:-1]], self.frame_rate)
        write_images(folder, "context", prediction.context.observation[0])

    def figures(self, folder: Path) -> list[Picture | Video]:
        """See `PredictionWriter`."""
        pictures = [Picture(folder / name, row) for row, name in _GRID_ROWS.items()]
        return [Video(folder / "motion.mp4", "motion"), *pictures]

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """See `PredictionWriter`; also show the samples of each image side by side."""
        super().write_on_batch_end(trainer, pl_module, prediction, batch_indices, batch, batch_idx, dataloader_idx)
        for key in batch.key:
            self._write_grid(self.output / file_name(key))

    def _write_grid(self, folder: Path) -> None:
        samples = sorted(path.parent for path in folder.glob("sample_*/warped.png"))
        labels = [path.name.replace("_", " ") for path in samples]
        images = [[imageio.imread(sample / name) for sample in samples] for name in _GRID_ROWS.values()]
        context = imageio.imread(samples[0] / "context_00.png")
        rows = [[first, *row] for first, row in zip((context, None), images, strict=True)]
        write_png(folder / "samples.png", labelled_grid(rows, ["image", *labels], list(_GRID_ROWS)))
