"""GAN inversion as a user types it: train, test, predict samples and a picture of one's own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from gan_problem import write_small_generator
from PIL import Image

from dfm_lightning.cli import main

CONFIG = Path(__file__).parents[2] / "configs" / "ffhq_gan.yaml"


def small_config(folder: Path) -> Path:
    """The paper's config with a small random generator and hardly any work."""
    write_small_generator(folder / "small.safetensors")
    config = yaml.safe_load(CONFIG.read_text())
    model, data, trainer = config["model"]["init_args"], config["data"]["init_args"], config["trainer"]
    model["denoiser"]["init_args"] |= {"code_width": 6, "width": 16, "depth": 1, "heads": 2}
    model["forward_model"]["init_args"]["generator"] = "small.safetensors"
    model["sampler"]["init_args"]["steps"] = 2
    model["samples"] = 2
    data["generator"]["init_args"]["generator"] = "small.safetensors"
    data |= {"train_seeds": [0, 256], "val_seeds": [0, 4], "test_seeds": [256, 258], "predict_seeds": [0, 2]}
    data |= {"resolution": 32, "patch_sides": [8, 16], "cache": "samples"}
    trainer |= {"accelerator": "cpu", "devices": 1, "max_steps": 4, "val_check_interval": 2}
    callbacks = {callback["class_path"].rsplit(".", 1)[1]: callback for callback in trainer["callbacks"]}
    callbacks["ModelCheckpoint"]["init_args"] |= {"dirpath": "fit", "every_n_train_steps": 2}
    callbacks["CodeReport"]["init_args"] |= {
        "output": "test",
        "attributes": {"class_path": "datamodules.synthetic.face_attributes.FaceAttributes"},
    }
    callbacks["CodeWriter"]["init_args"]["output"] = "predict"
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.slow
def test_fit_test_and_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    config = str(small_config(tmp_path))
    assert main(["fit", "--config", config]) == 0
    cached = sorted(path.name for path in (tmp_path / "samples" / "images").iterdir())
    assert cached == ["0000000.npy"], "test samples are drawn when they are needed"
    weights = str(tmp_path / "fit" / "last.ckpt")
    assert not any("generator" in name for name in torch.load(weights, weights_only=True)["state_dict"])

    assert main(["test", "--config", config, "--ckpt_path", weights]) == 0
    report = json.loads((tmp_path / "test" / "report.json").read_text())
    assert list(report["scenes"]) == ["seed0000256", "seed0000257"]
    assert report["settings"]["attributes"] == "FaceAttributes"

    assert main(["predict", "--config", config, "--ckpt_path", weights]) == 0
    assert len(list((tmp_path / "predict").glob("seed*/sample_0[01]/code.npz"))) == 4

    Image.fromarray(np.full((50, 60, 3), 90, np.uint8)).save("me.png")
    own = ["--data.image", "me.png", "--data.box", "[20,10,40,30]"]
    assert main(["predict", "--config", config, "--ckpt_path", weights, *own]) == 0
    assert (tmp_path / "predict" / "me" / "sample_01" / "image_full.png").is_file()
    assert (tmp_path / "predict" / "grid.png").is_file()


def test_a_picture_without_a_box_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = str(small_config(tmp_path))
    assert main(["predict", "--config", config, "--data.image", "me.png"]) == 2
    assert "image and box belong together" in capsys.readouterr().err
