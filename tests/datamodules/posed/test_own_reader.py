"""A data set of one's own is a file with a reader of forty lines: that of the documentation, word for word."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn_items import taken
from lightning.pytorch import LightningDataModule
from small_roots import FRAMES, picture

from datamodules.posed.datamodule import PosedImagesDataModule
from dfm_lightning.cli.parser import DfmParser
from dfm_lightning.errors import UserError

SMALL = ["--data.image_size=8", "--data.batch_size=2", "--data.workers=0", "--data.scenes.val=1"]
DOCS = Path(__file__).parents[3] / "docs" / "posed_images.md"


def block(language: str) -> str:
    """The first block of code in a language that the documentation shows."""
    return DOCS.read_text().split(f"```{language}\n")[1].split("```")[0]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PosedImagesDataModule:
    """The data module as a config gives it, of turntables in the working directory."""
    return made(tmp_path, monkeypatch)


def made(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> PosedImagesDataModule:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "turntables", raising=False)
    (folder / "turntables.py").write_text(block("python"))
    for split, count in (("train", 4), ("test", 2)):
        for scene in range(count):
            place = folder / "objects" / split / f"{split}{scene}"
            place.mkdir(parents=True)
            for frame in range(FRAMES):
                picture(scene, frame).save(place / f"{frame}.png")
            (place / "cameras.txt").write_text("\n".join(f"{36 * n} {3 + scene}" for n in range(FRAMES)))
    (folder / "data.yaml").write_text(block("yaml"))
    parser = DfmParser()
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(LightningDataModule, "data")
    module = parser.instantiate_classes(parser.parse_args(["--config", "data.yaml", *SMALL, *options])).data
    assert isinstance(module, PosedImagesDataModule)
    return module


def test_it_is_a_reader_of_about_forty_lines() -> None:
    assert len(block("python").splitlines()) < 50


def test_a_training_batch(data: PosedImagesDataModule) -> None:
    batches = taken(data, 6)
    assert {key for batch in batches for key in batch.key} <= set(data.training_split()[0])
    for batch in batches:
        assert batch.context.observation.shape == (2, 2, 3, 8, 8)
        assert batch.novel.observation.shape == (2, 1, 3, 8, 8)
        # Chords of the circle: 3 to 5 steps of 36 degrees from the first context to the target.
        position = batch.target.params.camera_to_world[:, 0, :3, 3].norm(dim=1)
        radius = torch.tensor([3.0 + int(key.removeprefix("train")) for key in batch.key])
        steps = 2 * torch.asin((position / radius / 2).clamp(max=1)) / np.radians(36)
        assert ((steps - steps.round()).abs() < 1e-2).all()
        assert set(steps.round().tolist()) <= {3.0, 4.0, 5.0}


def test_evaluation_batches(data: PosedImagesDataModule) -> None:
    (validated,) = data.val_dataloader()
    assert list(validated.key) == data.training_split()[1]
    tested = list(data.test_dataloader())
    assert [batch.key[0] for batch in tested] == ["test0", "test1"]
    # The picture itself, cut to its square: 12 of 14 columns.
    expected = picture(1, 0).resize((8, 8), box=(1, 0, 13, 12), resample=3)
    shown = (tested[1].context.observation[0, 0].permute(1, 2, 0) + 1) * 127.5
    assert np.abs(shown.numpy() - np.asarray(expected)).max() < 0.51
    assert data.mean_image().shape == (3, 8, 8)


def test_validation_scenes_have_as_many_novel_views_as_most_frames_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = made(tmp_path, monkeypatch, "--data.scenes.val=3", "--data.batch_size=3", "--data.views.novel=50")
    short, *long = data.training_split()[1]
    cameras = Path("objects") / "train" / short / "cameras.txt"
    cameras.write_text("\n".join(cameras.read_text().splitlines()[:5]))
    for frame in range(5, FRAMES):
        (cameras.parent / f"{frame}.png").unlink()
    with pytest.warns(UserWarning, match=f"1 of 3.*{short}"):
        (batch,) = data.val_dataloader()
    assert list(batch.key) == long
    # Two contexts and a target are taken first.
    assert batch.novel.observation.shape[:2] == (2, FRAMES - 3)


def test_a_predict_request_goes_around_the_circle(data: PosedImagesDataModule) -> None:
    for scene, request in enumerate(data.predict_dataloader()):
        position = request.params.absolute_pose[0, :, :3, 3]
        torch.testing.assert_close(position.norm(dim=1), torch.full((6,), 3.0 + scene), rtol=1e-4, atol=0)
        angles = torch.atan2(position[:, 0], -position[:, 2]) % (2 * torch.pi)
        torch.testing.assert_close(angles[1:].diff(), torch.full((4,), torch.pi / 3), rtol=1e-3, atol=0)


def test_what_cannot_be_read_is_replaced_left_out_or_refused(data: PosedImagesDataModule) -> None:
    root = Path("objects")
    for frame in range(FRAMES):
        (root / "train" / "train0" / f"{frame}.png").unlink()
    (root / "test" / "test0" / "cameras.txt").write_text("no number")
    data.counts = replace(data.counts, val=0)
    assert "train0" not in {key for batch in taken(data, 6) for key in batch.key}
    assert data.replaced_draws > 0
    with pytest.warns(UserWarning, match="test0: no cameras"):
        assert [batch.key[0] for batch in data.test_dataloader()] == ["test1"]
    (root / "test" / "test1" / "cameras.txt").unlink()
    with pytest.raises(UserError, match="2 scenes"):
        data.test_dataloader()


def test_masks_are_asked_of_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"test0.*masks"):
        made(tmp_path, monkeypatch, "--data.evaluation.masks=true").test_dataloader()


def test_an_empty_split_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data: Any = made(tmp_path, monkeypatch, "--data.prediction.split=val")
    with pytest.raises(UserError, match="val"):
        data.predict_dataloader()
