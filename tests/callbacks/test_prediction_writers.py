"""Predictions appear whole, once, the same after an interruption, and in formats that others read."""

import json
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from ball_scenes import BallDenoiser, renderer, request
from lightning.pytorch import LightningDataModule, Trainer
from PIL import Image

from dfm_lightning.callbacks import SceneWriter, TensorWriter
from dfm_lightning.callbacks.prediction_writer import PredictionWriter
from dfm_lightning.callbacks.scene_writer import transforms
from dfm_lightning.diffusion import DDIM
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.optimizers import AdamWithWarmup
from dfm_lightning.tasks import InverseGraphics, SampledScene
from dfm_lightning.types import Prediction

KEYS = ["scene/1", "scene/2"]


class Requests(LightningDataModule):
    def __init__(self, frames: int = 4, keys: list[str] = KEYS) -> None:
        super().__init__()
        self.frames = frames
        self.keys = keys

    def predict_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader([request([key], self.frames) for key in self.keys], batch_size=None)


def task(**options: Any) -> InverseGraphics:
    torch.manual_seed(0)
    return InverseGraphics(
        BallDenoiser(), renderer(), sampler=DDIM(steps=2), **{"samples": 2, "autoregressive_steps": 1, **options}
    )


def predict(
    writer: PredictionWriter,
    model: InverseGraphics | None = None,
    frames: int = 4,
    keys: list[str] = KEYS,
    precision: Any = "32-true",
) -> InverseGraphics:
    model = model or task()
    trainer = Trainer(
        accelerator="cpu", logger=False, callbacks=[writer], enable_progress_bar=False, enable_model_summary=False,
        precision=precision,
    )  # fmt: skip
    trainer.predict(model, datamodule=Requests(frames, keys), return_predictions=False)
    return model


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def stopping_early(output: Path) -> SceneWriter:
    """Is killed while it writes its third sample."""
    writer = SceneWriter(str(output))
    write, written = writer.write, []

    def stop(prediction: Prediction, folder: Path) -> None:
        write(prediction, folder)
        written.append(folder)
        if len(written) == 3:
            raise RuntimeError("killed")

    writer.write = stop
    return writer


def test_killed_and_started_again_gives_the_files_of_one_run(tmp_path: Path) -> None:
    once = predict(SceneWriter(str(tmp_path / "once")))
    assert once.denoiser.calls == 2 * 2 * 2

    with pytest.raises(RuntimeError, match="killed"):
        predict(stopping_early(tmp_path / "twice"))
    # A killed process cleans nothing up.
    leftover = tmp_path / "twice" / "x" / ".partial-0-sample_01"
    leftover.mkdir(parents=True)
    assert len(list((tmp_path / "twice").glob("*/sample_*/sample.json"))) == 2
    again = predict(SceneWriter(str(tmp_path / "twice")))
    assert again.denoiser.calls == 2 * 2, "two samples of two steps were left"
    assert not leftover.exists()
    leftover.parent.rmdir()
    assert contents(tmp_path / "once") == contents(tmp_path / "twice")

    nothing = predict(SceneWriter(str(tmp_path / "twice")))
    assert nothing.denoiser.calls == 0
    assert nothing.denoiser.conditioned_on == []


def test_two_scenes_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'twin'"):
        predict(TensorWriter(str(tmp_path)), keys=["twin", "other", "twin"])


def test_more_samples_are_added_to_those_there(tmp_path: Path) -> None:
    predict(TensorWriter(str(tmp_path)))
    before = contents(tmp_path)
    more = predict(TensorWriter(str(tmp_path)), task(samples=3))
    assert more.denoiser.calls == 2 * 2
    after = contents(tmp_path)
    assert all(after[name] == content for name, content in before.items() if name != "index.html")


def reseeded(monkeypatch: pytest.MonkeyPatch) -> InverseGraphics:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    return task()


def retrained(monkeypatch: pytest.MonkeyPatch) -> InverseGraphics:
    model = task()
    model.denoiser.bias.data[0] += 1e-3
    return model


def guided(monkeypatch: pytest.MonkeyPatch) -> InverseGraphics:
    return task(guidance_scale=2.0)


def guided_elsewhere(monkeypatch: pytest.MonkeyPatch) -> InverseGraphics:
    return task(guidance_space="observation")


def rendered_coarsely(monkeypatch: pytest.MonkeyPatch) -> InverseGraphics:
    model = task()
    model.forward_model.coarse_samples = 9
    return model


def seen_from_nearer(monkeypatch: pytest.MonkeyPatch) -> InverseGraphics:
    model = task()
    model.forward_model = VolumeRendering(near=0.5, far=5.0, coarse_samples=8, fine_samples=8, patch_size=4)
    return model


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (reseeded, "(seed: 0 → 7)"),
        (retrained, "(weights: "),
        (guided, "(guidance_scale: 1.0 → 2.0)"),
        (guided_elsewhere, "(guidance_space: signal → observation)"),
        (rendered_coarsely, "(forward_model.coarse_samples: 8 → 9)"),
        (seen_from_nearer, "(forward_model.near: 1.0 → 0.5)"),
    ],
)
def test_samples_made_otherwise_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, named: str
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    predict(TensorWriter(str(tmp_path)))
    before = contents(tmp_path)
    model = change(monkeypatch)
    with pytest.raises(UserError, match="overwrite") as caught:
        predict(TensorWriter(str(tmp_path)), model)
    assert named in str(caught.value)
    assert contents(tmp_path) == before
    if change in (reseeded, retrained, seen_from_nearer):
        predict(TensorWriter(str(tmp_path), overwrite=True), model)
        after = contents(tmp_path)
        assert set(after) == set(before)
        changed = [name for name in before if name.endswith("sample.json") and after[name] != before[name]]
        assert len(changed) == 4
        predict(TensorWriter(str(tmp_path), overwrite=True), model)
        assert contents(tmp_path) == after, "what was overwritten once is finished now"


def test_what_changes_no_sample_does_not_refuse(tmp_path: Path) -> None:
    predict(TensorWriter(str(tmp_path)))
    before = contents(tmp_path)
    model = task(optimizer=AdamWithWarmup(1.0), warm_start_steps=9, context_dropout=0.5)
    model.forward_model.patch_size = 2
    model.forward_model.memory_budget_mb = 0.1
    assert predict(TensorWriter(str(tmp_path)), model).denoiser.calls == 0
    assert contents(tmp_path) == before


def test_files_of_another_kind_are_not_mixed(tmp_path: Path) -> None:
    predict(SceneWriter(str(tmp_path)))
    with pytest.raises(UserError, match=r"writer\.frame_rate: 15 → 30"):
        predict(SceneWriter(str(tmp_path), frame_rate=30))
    with pytest.raises(UserError, match="writer: SceneWriter → TensorWriter"):
        predict(TensorWriter(str(tmp_path)))


def test_another_precision_is_named(tmp_path: Path) -> None:
    predict(TensorWriter(str(tmp_path)))
    with pytest.raises(UserError, match="precision: 32-true → bf16-mixed"):
        predict(TensorWriter(str(tmp_path)), precision="bf16-mixed")


def test_samples_of_the_first_version_are_not_taken(tmp_path: Path) -> None:
    predict(TensorWriter(str(tmp_path)))
    for path in tmp_path.glob("*/*/sample.json"):
        manifest = json.loads(path.read_text())
        del manifest["version"]
        path.write_text(json.dumps({**manifest, "request": "0123456789abcdef"}))
    with pytest.raises(UserError, match="version"):
        predict(TensorWriter(str(tmp_path)))
    assert predict(TensorWriter(str(tmp_path), overwrite=True)).denoiser.calls == 2 * 2 * 2
    assert predict(TensorWriter(str(tmp_path))).denoiser.calls == 0


def test_nothing_is_left_of_what_is_overwritten(tmp_path: Path) -> None:
    predict(TensorWriter(str(tmp_path)), task(samples=3))
    predict(TensorWriter(str(tmp_path), overwrite=True), task(samples=2, guidance_scale=2.0))
    names = sorted(path.name for path in tmp_path.glob("*/sample_*"))
    assert names == ["sample_00", "sample_00", "sample_01", "sample_01"]


def test_another_trajectory_is_noticed(tmp_path: Path) -> None:
    predict(TensorWriter(str(tmp_path)))
    with pytest.raises(UserError, match="cameras"):
        predict(TensorWriter(str(tmp_path)), frames=5)
    predict(TensorWriter(str(tmp_path), overwrite=True), frames=5)
    assert len(list(tmp_path.glob("scene_1-*/sample_00/observation_*.png"))) == 5


def test_a_foreign_manifest_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scene" / "sample_00" / "sample.json"
    path.parent.mkdir(parents=True)
    path.write_text("[]")
    with pytest.raises(UserError, match=r"sample\.json"):
        predict(TensorWriter(str(tmp_path)))


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[SceneWriter(str(tmp_path)), TensorWriter(str(tmp_path))],
    )  # fmt: skip
    with pytest.raises(UserError, match=r"SceneWriter.*TensorWriter"):
        trainer.predict(task(), datamodule=Requests())


def prediction() -> Prediction:
    model = task(samples=1).eval()
    return next(model.predictions(request(["a"], frames=4)))


def test_files_of_a_scene(tmp_path: Path) -> None:
    sample = prediction()
    SceneWriter(str(tmp_path), frame_rate=7).write(sample, tmp_path)
    scene = sample.signal
    assert isinstance(scene, SampledScene)

    frame = np.asarray(Image.open(tmp_path / "frames" / "0002.png"))
    expected = (sample.observation[2].permute(1, 2, 0).numpy() + 1) * 127.5
    np.testing.assert_allclose(frame, expected, atol=0.51)

    scale = json.loads((tmp_path / "depth.json").read_text())["scale"]
    stored = np.asarray(Image.open(tmp_path / "depth" / "0001.png")).astype(np.float64) * scale
    np.testing.assert_allclose(stored, scene.depth[1, 0].numpy(), atol=0.51 * scale)
    assert scale * 65535 == pytest.approx(scene.depth.max().item())

    for name in ("video.mp4", "depth.mp4"):
        reader: Any = imageio.get_reader(tmp_path / name)
        assert reader.get_meta_data()["fps"] == 7
        assert reader.count_frames() == 4
    video = np.asarray(imageio.get_reader(tmp_path / "video.mp4").get_data(3)).astype(float)
    enlarged = np.asarray(Image.open(tmp_path / "frames" / "0003.png")).repeat(32, 0).repeat(32, 1)
    assert np.abs(video - enlarged).mean() < 12
    assert sorted(path.name for path in tmp_path.glob("*_[0-9][0-9].png")) == ["context_00.png", "sampled_00.png"]


def test_transforms_are_opengl_cameras_in_pixels() -> None:
    cameras = request(["a"], frames=4, size=8).params
    one = type(cameras)(*(tensor[0] for tensor in cameras))
    content = transforms(one)
    assert (content["w"], content["h"]) == (8, 8)
    assert content["frames"][0]["fl_x"] == 8.0
    assert content["frames"][0]["cx"] == 4.0
    # The second camera stands a quarter turn around the ball 3 in front of the first: at (3, 0, 3), looking
    # along -x. In OpenGL its third column points backwards, +x; its second up, which is -y in the world.
    expected = [[0, 0, 1, 3], [0, -1, 0, 0], [1, 0, 0, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(content["frames"][1]["transform_matrix"], expected, atol=1e-6)


def test_tensor_writer_keeps_signal_observation_and_what_they_come_from(tmp_path: Path) -> None:
    sample = prediction()._replace(truth={"mass": torch.tensor([[3.0]])})
    TensorWriter(str(tmp_path)).write(sample, tmp_path)
    with np.load(tmp_path / "sample.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["observation"], sample.observation.numpy())
        np.testing.assert_array_equal(arrays["signal.depth"], sample.signal.depth.numpy())
        np.testing.assert_array_equal(arrays["signal.field.colour"], sample.signal.field.colour.numpy())
        np.testing.assert_array_equal(arrays["context"], sample.context.observation[0].numpy())
        for name, params in (("params", sample.params), ("context_params", sample.context.params)):
            np.testing.assert_array_equal(arrays[f"{name}.pixels"], params.pixels[0].numpy())
        np.testing.assert_array_equal(arrays["truth.mass"], [3.0])
    assert (tmp_path / "context_00.png").exists()
    assert (tmp_path / "overview.png").exists()
    assert len(list(tmp_path.glob("observation_*.png"))) == 4


def test_the_page_shows_every_sample(tmp_path: Path) -> None:
    predict(SceneWriter(str(tmp_path)))
    page = (tmp_path / "index.html").read_text()
    for path in tmp_path.glob("*/*/video.mp4"):
        assert f'src="{path.relative_to(tmp_path)}"' in page
    assert page.count("<video") == 8
    for key in KEYS:
        assert key in page


def test_the_writers_precision_is_the_runs(tmp_path: Path) -> None:
    seen = []

    class Probe(BallDenoiser):
        def forward(self, *args: Any) -> Any:
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(*args)

    model = InverseGraphics(Probe(), renderer(), sampler=DDIM(steps=1), samples=1, autoregressive_steps=1)
    trainer = Trainer(
        accelerator="cpu", logger=False, precision="bf16-mixed", callbacks=[TensorWriter(str(tmp_path))],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.predict(model, datamodule=Requests(), return_predictions=False)
    assert seen == [True] * 2
