"""Pictures come when they are due, from validation, and leave training alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ball_scenes import BallDenoiser, batch, renderer
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import TensorBoardLogger

from dfm_lightning.callbacks import SamplePictures
from dfm_lightning.callbacks.sample_pictures import sample_picture
from dfm_lightning.diffusion import DDIM
from dfm_lightning.errors import UserError
from dfm_lightning.sampling import PredictingModule
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Prediction, Views


def fit(
    folder: Path, callbacks: list[SamplePictures], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[int], torch.Tensor]:
    torch.manual_seed(0)
    model = InverseGraphics(BallDenoiser(), renderer(), sampler=DDIM(steps=2))
    logger = TensorBoardLogger(str(folder))
    drawn: list[int] = []
    monkeypatch.setattr(logger.experiment, "add_image", lambda name, image, step, dataformats: drawn.append(step))
    trainer = Trainer(
        max_steps=6, val_check_interval=2, accelerator="cpu", logger=logger, callbacks=callbacks,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    data = torch.utils.data.DataLoader([batch(["a"])] * 6, batch_size=None)
    validation = torch.utils.data.DataLoader([batch(["v"]), batch(["w"])], batch_size=None)
    trainer.fit(model, data, validation)
    return drawn, model.denoiser.bias.detach().clone()


def test_pictures_are_due_every_so_often_and_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, weights = fit(tmp_path / "a", [SamplePictures(every_n_steps=4)], monkeypatch)
    assert drawn == [4]
    often, _ = fit(tmp_path / "b", [SamplePictures(every_n_steps=1)], monkeypatch)
    assert often == [2, 4, 6]
    never, undisturbed = fit(tmp_path / "c", [], monkeypatch)
    assert never == []
    assert torch.equal(weights, undisturbed)


def test_a_picture_has_a_row_for_each_scene_and_is_the_same_every_time() -> None:
    model = InverseGraphics(BallDenoiser(), renderer(), sampler=DDIM(steps=2)).eval()
    scenes = batch(["a", "b", "c"], contexts=2, novel=1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    picture = sample_picture(model, scenes, scenes=2, cell=8)
    assert torch.equal(torch.get_rng_state(), state)
    assert picture.shape == (18 + 2 * 12, 90 + 6 * 12, 3), "2 contexts, 2 true views, 2 of the sample"
    np.testing.assert_array_equal(sample_picture(model, scenes, scenes=2, cell=8), picture)
    expected = (scenes.target.observation[1, 0].permute(1, 2, 0).numpy() + 1) * 127.5
    np.testing.assert_allclose(picture[30:38, 90 + 24 : 90 + 32], expected, atol=0.51)


class Painter(PredictingModule):
    """Draws images of one grey, which the context and the number of the draw decide."""

    def predict_draws(self, key: str, context: Views, params: Any, draws: range) -> Iterator[Prediction]:
        for draw in draws:
            grey = context.observation.mean() * (draw + 1)
            image = grey.expand(params.camera_to_world.shape[1], 3, 8, 8)
            yield Prediction(key, draw, grey, image, params, context)


def test_any_model_that_draws_samples_has_pictures() -> None:
    model = Painter(samples=3)
    scenes = batch(["a", "b"], contexts=1, novel=1)
    picture = sample_picture(model, scenes, scenes=2, cell=8)
    grey = (scenes.context.observation[1].mean() + 1) * 127.5
    np.testing.assert_allclose(picture[34, -8], grey.expand(3).numpy(), atol=0.51)
    assert model.plan.pending("a", 3) == [0, 1, 2], "nothing is left out afterwards"


def test_a_model_that_draws_nothing_is_refused(tmp_path: Path) -> None:
    trainer = Trainer(
        max_steps=1, accelerator="cpu", logger=False, callbacks=[SamplePictures()], enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"SamplePictures.*BoringModel"):
        trainer.fit(BoringModel())
