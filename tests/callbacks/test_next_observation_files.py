"""What `dfm predict --next_observation true` writes, against samples whose disagreement is known."""

import json
import math
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from ball_scenes import BallDenoiser, renderer, request
from lightning.pytorch import LightningDataModule, Trainer

from dfm_lightning.callbacks import LinearWriter, MotionWriter, SceneWriter, TensorWriter
from dfm_lightning.callbacks.next_observation import FILE
from dfm_lightning.callbacks.prediction_writer import PredictionWriter
from dfm_lightning.cli import main
from dfm_lightning.cli.next_observation import choose_next
from dfm_lightning.diffusion import DDIM
from dfm_lightning.errors import UserError
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Prediction, Request, Views


class LookingAway(LightningDataModule):
    """Scenes whose frames show the ball, but for two that look the other way."""

    def predict_dataloader(self) -> torch.utils.data.DataLoader:
        whole = request(["a", "b"], frames=5)
        poses = whole.params.camera_to_world.clone()
        poses[:, [1, 3], :3, :3] = poses[:, [1, 3], :3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
        params = whole.params._replace(camera_to_world=poses)
        return torch.utils.data.DataLoader([Request(whole.context, params, whole.key)], batch_size=None)


def trainer_with(writer: PredictionWriter) -> Trainer:
    return Trainer(
        accelerator="cpu", logger=False, callbacks=[writer], enable_progress_bar=False, enable_model_summary=False
    )


def predict(writer: PredictionWriter, samples: int, ranked: bool = True) -> None:
    torch.manual_seed(0)
    model = InverseGraphics(
        BallDenoiser(), renderer(), sampler=DDIM(steps=2), samples=samples, autoregressive_steps=1
    )
    trainer = trainer_with(writer)
    if ranked:
        choose_next(model, trainer)
    trainer.predict(model, datamodule=LookingAway(), return_predictions=False)


def entropy(observations: list[np.ndarray]) -> float:
    """Of one candidate, up to the scale: sums over pairs."""
    total = 0.0
    for one in observations:
        total -= math.log(np.mean([math.exp(-float(((one - two) ** 2).sum())) for two in observations]))
    return total / len(observations)


def test_frames_are_ranked_by_what_samples_show_there(tmp_path: Path) -> None:
    predict(SceneWriter(str(tmp_path / "few")), 2, ranked=False)
    assert not list(tmp_path.rglob(FILE))
    predict(SceneWriter(str(tmp_path / "few")), 4)  # goes on from the two that are there
    predict(SceneWriter(str(tmp_path / "once")), 4)
    for scene in ("a", "b"):
        written = json.loads((tmp_path / "few" / scene / FILE).read_text())
        assert written == json.loads((tmp_path / "once" / scene / FILE).read_text())
        assert written["samples"] == 4
        frames = [candidate["frame"] for candidate in written["candidates"]]
        assert sorted(frames[3:]) == [1, 3]
        stored = [
            [imageio.imread(path) / 255.0 for path in sorted((folder / "frames").glob("*.png"))]
            for folder in sorted((tmp_path / "once" / scene).glob("sample_*"))
        ]
        distances = [
            float(((one[frame] - two[frame]) ** 2).sum()) for frame in range(5) for one in stored for two in stored
        ]
        scale = np.mean(distances) ** 0.5
        expected = [entropy([sample[frame] / scale for sample in stored]) for frame in frames]
        found = [candidate["disagreement"] for candidate in written["candidates"]]
        assert found == pytest.approx(expected, abs=1e-5)
        assert f"Observe next: frame {frames[0]}" in (tmp_path / "once" / "index.html").read_text()


def test_parameters_of_ones_own_problem_are_ranked(tmp_path: Path) -> None:
    writer, context = TensorWriter(str(tmp_path)), Views(torch.zeros(1, 1, 1, 1, 1), torch.zeros(1, 1))
    values = torch.tensor([[0.0, 1.0, 0.2], [0.0, -1.0, 0.1], [0.0, 0.5, -0.1]])
    folders = [tmp_path / "scene" / f"sample_{number:02}" for number in range(3)]
    for folder, each in zip(folders, values, strict=True):
        folder.mkdir(parents=True)
        observation = each.view(3, 1, 1, 1)
        writer.write(Prediction("scene", 0, each[None], observation, torch.zeros(1, 3), context), folder)
    found = writer.candidates(folders)
    assert found is not None
    torch.testing.assert_close(found.observations, values.view(3, 3, 1, 1, 1))
    assert [name["view"] for name in found.names] == [0, 1, 2]
    assert writer.candidates(folders[:1]) is None


def test_pixels_of_linear_problems_are_ranked(tmp_path: Path) -> None:
    writer, images = LinearWriter(str(tmp_path)), np.zeros((3, 2, 4, 5), dtype=np.float32)
    images[:, :, 1, 3] = [[0, 1], [1, 0], [-1, 0]]
    images[:, :, 2, 0] = [[0, 0.1], [0.2, 0], [-0.1, 0]]
    folders = [tmp_path / "scene" / f"sample_{number:02}" for number in range(3)]
    for folder, image in zip(folders, images, strict=True):
        folder.mkdir(parents=True)
        np.savez(folder / "solution.npz", image=image)
    found = writer.candidates(folders)
    assert found is not None
    writer.chooses_next = True
    assert writer._choice(folders) == "Observe next: row 1, column 3"
    candidates = json.loads((tmp_path / "scene" / FILE).read_text())["candidates"]
    assert len(candidates) == 20
    assert (candidates[1]["row"], candidates[1]["column"]) == (2, 0)
    assert [candidate["disagreement"] for candidate in candidates[2:]] == [0] * 18


def test_where_nothing_can_be_ranked_it_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = InverseGraphics(BallDenoiser(), renderer(), samples=1)
    with pytest.raises(UserError, match="samples"):
        choose_next(model, trainer_with(TensorWriter(str(tmp_path))))
    with pytest.raises(UserError, match="MotionWriter"):
        choose_next(model, trainer_with(MotionWriter(str(tmp_path))))
    assert main(["test", "--config", "co3d_demo.yaml", "--next_observation", "true"]) == 2
    assert "--next_observation" in capsys.readouterr().err
