"""Flow as others read and draw it; the motion report and writer on a model that knows two motions."""

import itertools
import json
from pathlib import Path
from typing import Any

import cv2
import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from PIL import Image
from torch import Tensor
from torchvision.utils import flow_to_image

from dfm_lightning.callbacks import MotionReport, MotionWriter
from dfm_lightning.callbacks.motion_report import score_motion
from dfm_lightning.callbacks.output.flow import flow_colours, write_flo
from dfm_lightning.denoisers import ImageToMotion
from dfm_lightning.diffusion import DDIM
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models import ImageWarping
from dfm_lightning.metrics import ImageMetrics, psnr
from dfm_lightning.signals import Motion
from dfm_lightning.tasks import EvaluatedMotion, MotionPrediction
from dfm_lightning.types import Batch, Moment, Request, Views

SIZE = 16


@pytest.fixture(autouse=True)
def _no_lpips(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("empty")))


# --- flow as files and pictures ---------------------------------------------------------------------------


def test_flo_files_are_read_by_opencv(tmp_path: Path) -> None:
    flow = torch.randn(2, 5, 7) * 10
    write_flo(tmp_path / "a.flo", flow)
    read = cv2.readOpticalFlow(str(tmp_path / "a.flo"))
    np.testing.assert_array_equal(read, flow.permute(1, 2, 0).numpy())
    assert (tmp_path / "a.flo").read_bytes()[:4] == b"PIEH"


def test_the_wheels_colours_are_torchvisions() -> None:
    torch.manual_seed(0)
    flow = torch.randn(2, 40, 50) * 3
    # torchvision scales by the longest displacement.
    expected = flow_to_image(flow).permute(1, 2, 0).numpy().astype(int)
    found = flow_colours(flow, 1.00001 * float(flow.norm(dim=0).max())).astype(int)
    assert np.abs(found - expected).max() <= 2
    assert np.abs(found - expected).mean() < 0.1


def test_colours_of_no_long_and_unknown_motion() -> None:
    flow = torch.zeros(2, 1, 4)
    flow[0, 0] = torch.tensor([0.0, 2.0, 20.0, torch.nan])
    still, right, long, unknown = flow_colours(flow, 2.0)[0].tolist()
    assert still == [255, 255, 255]
    assert right[0] > 250 > 20 > max(right[1:])
    assert np.abs(np.array(long) - 0.75 * np.array(right)).max() <= 1
    assert unknown == [0, 0, 0]


# --- report and writer ------------------------------------------------------------------------------------


def square_image() -> Tensor:
    image = torch.full((3, SIZE, SIZE), -0.5)
    image[:, 6:10, 6:10] = 0.8
    return image


class LeftOrRight(ImageToMotion):
    """Moves the square two pixels to the right if the noise says so, otherwise to the left."""

    def __init__(self) -> None:
        super().__init__(width=16, depth=1, heads=1, patch=4)

    def forward(self, noisy: Tensor, level: Tensor, conditioning: Any) -> Motion:
        sign = torch.where(noisy[:, 0, 0, 0, 0] > 0, 1.0, -1.0)
        flow = torch.zeros(len(noisy), 2, SIZE, SIZE)
        flow[:, 0, 6:10, 6:10] = 2 * sign[:, None, None]
        importance = torch.zeros(len(noisy), 1, SIZE, SIZE)
        importance[..., 6:10, 6:10] = 8
        return Motion(flow, importance)


def views(images: list[Tensor], times: list[float]) -> Views:
    moments = Moment(square_image().expand(1, len(times), -1, -1, -1), torch.tensor([times]))
    stacked = torch.stack(images)[None] if images else torch.zeros(1, 0, 3, SIZE, SIZE)
    return Views(stacked, moments)


def clip(key: str, way: int = 2, known: bool = True) -> Batch:
    image = square_image()
    truth = {}
    if known:
        flow, shape = torch.zeros(1, 2, SIZE, SIZE), torch.zeros(1, 1, SIZE, SIZE, dtype=torch.int64)
        flow[:, 0, 6:10, 6:10] = way
        shape[:, :, 6:10, 6:10] = 1
        directions, law = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]]), torch.tensor([[0.5, 0.5]])
        truth = {"flow": flow, "shape": shape, "directions": directions, "probabilities": law}
    target = torch.full_like(image, -0.5)
    target[:, 6:10, 6 + way : 10 + way] = 0.8
    return Batch(views([image], [0.0]), views([target], [1.0]), views([image], [0.5]), [key], truth)


class Clips(LightningDataModule):
    def __init__(self, known: bool = True) -> None:
        super().__init__()
        self.clips = [clip("one/1", known=known), clip("one/2", way=-2, known=known)]

    def test_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(self.clips, batch_size=None)

    def predict_dataloader(self) -> torch.utils.data.DataLoader:
        context = views([square_image()], [0.0])
        asked = views([], [1.0, 0.0, 0.25, 0.5, 0.75]).params
        return torch.utils.data.DataLoader([Request(context, asked, ["own/photo"])], batch_size=None)


def task(samples: int = 6) -> MotionPrediction:
    return MotionPrediction(LeftOrRight(), ImageWarping(), sampler=DDIM(2), samples=samples, samples_at_once=4)


def trainer(callback: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def test_the_report_counts_directions_and_scores_the_best_of_the_first_few(tmp_path: Path) -> None:
    model = task(samples=32)
    report = MotionReport(str(tmp_path), best_of=8)
    trainer(report).test(model, datamodule=Clips(), verbose=False)
    written = json.loads((tmp_path / "report.json").read_text())
    joint = written["joint"]
    assert set(joint) == {"0°", "180°", "undecided"}
    assert joint["0°"]["share"] + joint["180°"]["share"] == 1
    assert joint["undecided"]["share"] == 0
    assert 0.2 < joint["0°"]["least"] < 0.8
    assert joint["0°"]["true_probability"] == 0.5
    assert 0 < joint["0°"]["standard_error"] < 0.2
    average = written["average"]
    assert set(average) == {"target", "novel"}
    # The best of eight goes the true way, whose flow is exact; a wrong one is off by 4 at 16 of 256 pixels.
    assert average["target"]["epe_best"] == pytest.approx(0, abs=1e-6)
    assert average["target"]["epe_no_motion"] == pytest.approx(2 * 16 / 256)
    for scene, direction in (("one/1", "180°"), ("one/2", "0°")):
        wrong = written["scenes"][scene]["target"]["epe_mean"] / (4 * 16 / 256)
        assert wrong == pytest.approx(round(wrong * 32) / 32, abs=1e-6), direction
    # The square leaves two of its four columns behind; with two more frames' worth in the novel view.
    assert average["target"]["holes"] == pytest.approx(8 / 256)
    assert "flow_spread" in average["target"]
    assert "flow_spread" not in average["novel"]
    with Image.open(tmp_path / "sheets" / next(iter((tmp_path / "sheets").iterdir())).name) as sheet:
        assert sheet.width == 90 + (2 + 8) * (96 + 4)

    # Started again, nothing is drawn anew, and the result is the same.
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("drawn again")

    model.sample = refuse
    trainer(MotionReport(str(tmp_path), best_of=8)).test(model, datamodule=Clips(), verbose=False)
    assert json.loads((tmp_path / "report.json").read_text())["joint"] == joint


def test_scores_of_frames() -> None:
    torch.manual_seed(0)
    truth, samples = torch.rand(2, 3, SIZE, SIZE), torch.rand(4, 2, 3, SIZE, SIZE)
    coverage = (torch.rand(4, 2, 1, SIZE, SIZE) > 0.1).float()
    image, flows = torch.rand(3, SIZE, SIZE), torch.randn(4, 2, SIZE, SIZE)
    given = EvaluatedMotion("a", ["target", "novel"], image, truth, samples, coverage, flows, {})
    scores = score_motion(given, ImageMetrics(), best_of=2)
    of_target = psnr(samples[:, 0], truth[:1].repeat(4, 1, 1, 1))
    assert scores["target"]["psnr_best"] == pytest.approx(of_target[:2].max().item())
    assert scores["target"]["psnr_mean"] == pytest.approx(of_target.mean().item())
    assert scores["target"]["no_motion_psnr"] == pytest.approx(psnr(image[None], truth[:1]).item())
    assert scores["novel"]["holes"] == pytest.approx((1 - coverage[:, 1]).mean().item())
    assert scores["target"]["flow_spread"] == pytest.approx(
        np.sqrt(np.pi) / 2 * np.mean([(a - b).norm(dim=0).mean() for a, b in itertools.combinations(flows, 2)])
    )
    assert "epe_best" not in scores["target"]


def test_real_clips_have_no_true_motion(tmp_path: Path) -> None:
    trainer(MotionReport(str(tmp_path))).test(task(), datamodule=Clips(known=False), verbose=False)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["joint"] == {}
    assert "epe_best" not in written["average"]["target"]
    assert written["average"]["target"]["psnr_best"] > written["average"]["target"]["no_motion_psnr"]


def test_the_writer_shows_each_motion_and_all_side_by_side(tmp_path: Path) -> None:
    trainer(MotionWriter(str(tmp_path))).predict(task(3), datamodule=Clips(), return_predictions=False)
    (scene,) = (path for path in tmp_path.iterdir() if path.is_dir())
    samples = sorted(scene.glob("sample_*"))
    assert len(samples) == 3
    for sample in samples:
        flow = cv2.readOpticalFlow(str(sample / "flow.flo"))
        assert flow.shape == (SIZE, SIZE, 2)
        way = int(flow[7, 7, 0])
        assert way in (-2, 2)
        warped = imageio.imread(sample / "warped.png")
        front = 10 + way - 1 if way > 0 else 6 + way
        np.testing.assert_allclose(warped[7, front], round((0.8 + 1) * 127.5), atol=1)
        frames = imageio.imread(sample / "motion.mp4")
        assert len(frames) == 2 * 5 - 2
        # It begins with the image itself, and is at its end in the middle.
        for number, still in ((0, imageio.imread(sample / "context_00.png")), (4, warped)):
            small = frames[number].reshape(SIZE, 16, SIZE, 16, 3).mean(axis=(1, 3))
            assert np.abs(small - still).mean() < 6
    grid = imageio.imread(scene / "samples.png")
    assert grid.shape[:2] == (18 + 2 * (128 + 4), 90 + 4 * (128 + 4))
    shown = grid[18 : 18 + 128, 90 + 132 : 90 + 132 + 128]
    np.testing.assert_array_equal(shown[::8, ::8], imageio.imread(samples[0] / "warped.png"))
    assert "motion.mp4" in (tmp_path / "index.html").read_text()


def test_what_cannot_be_written_or_measured(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="best_of"):
        MotionReport(str(tmp_path), best_of=0)
    with pytest.raises(ValueError, match="frame_rate"):
        MotionWriter(str(tmp_path), frame_rate=0)
    with pytest.raises(UserError, match=r"MotionReport|motions"):
        MotionReport(str(tmp_path)).measure(object(), torch.device("cpu"))
