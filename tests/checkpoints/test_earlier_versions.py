"""Checkpoints of earlier versions predict what they predicted, and their trainings go on."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser

from dfm_lightning.checkpoints.stored_config import load_weights, stored_config
from dfm_lightning.cli import main
from dfm_lightning.cli.parts import import_parts
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.types import Cameras, Moment, Request, Views

FOLDER = Path(__file__).parents[1] / "data" / "version_0_1"
PARAMS = {"co3d_demo": Cameras, "realestate10k_demo": Cameras, "vimeo90k_demo": Moment, "ffhq_gan_demo": None}


def model_of(checkpoint: Path) -> DiffusionWithForwardModel:
    """The model that a checkpoint's own config describes, with the checkpoint's weights."""
    import_parts()
    parser = ArgumentParser()
    parser.add_subclass_arguments(DiffusionWithForwardModel, "model")
    config = parser.parse_object({"model": stored_config(checkpoint)["model"]})
    model = parser.instantiate(config).model
    load_weights(model, checkpoint)
    return model.eval()


@pytest.mark.parametrize("name", PARAMS)
def test_a_checkpoint_of_version_0_1_predicts_what_it_predicted(name: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    stored = torch.load(FOLDER / f"{name}_prediction.pt", weights_only=True)
    kind = PARAMS[name]

    def params(value: Any) -> Any:
        return value if kind is None else kind(**value)

    context = Views(stored["context"]["observation"], params(stored["context"]["params"]))
    model = model_of(FOLDER / f"{name}.ckpt")
    model.samples = 1
    # Guided scenes are another thing than they were: density and emission are guided, not density and colour.
    model.guidance_scale = 1.0
    model.sampler.steps = 3
    if hasattr(model, "autoregressive_steps"):
        model.autoregressive_steps = 1
    prediction = next(iter(model.predictions(Request(context, params(stored["params"]), stored["key"]))))
    torch.testing.assert_close(prediction.observation, stored["observation"], atol=2e-4, rtol=0)


@pytest.mark.slow
def test_a_training_of_version_0_1_goes_on(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(FOLDER / "ffhq_gan_demo.ckpt", tmp_path / "old.ckpt")
    settings = {
        "data.cache": "null",
        "data.train_seeds": "[0,16]",
        "data.val_seeds": "[100,102]",
        "data.batch_size": "4",
        "trainer.max_steps": "8",
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "trainer.limit_val_batches": "0",
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    assert main(["fit", "--config", "ffhq_gan_demo", "--ckpt_path", "old.ckpt", *options]) == 0
    (path,) = tmp_path.rglob("last.ckpt")
    assert torch.load(path, weights_only=True)["global_step"] == 8
