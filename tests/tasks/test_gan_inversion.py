"""GAN inversion learns codes, leaves the generator alone, and keeps it out of what it writes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from gan_problem import small_task, write_small_generator
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn import functional as F

from datamodules.ffhq_gan import FFHQGANDataModule
from dfm_lightning.errors import UserError
from dfm_lightning.networks.stylegan2.sampling import GeneratorSamples, draw_noise
from dfm_lightning.tasks import SampledCode
from dfm_lightning.types import as_request


@pytest.fixture
def generator(tmp_path: Path) -> str:
    return write_small_generator(tmp_path / "generator.safetensors")


def data(generator: str, **options: Any) -> FFHQGANDataModule:
    values = {"resolution": 16, "patch_sides": (4, 8), "train_seeds": (100, 200), "val_seeds": (50, 52)}
    values |= {"test_seeds": (0, 3), "predict_seeds": (0, 2), "batch_size": 2, **options}
    return FFHQGANDataModule(GeneratorSamples(generator, 0.7), **values)


def trainer(folder: Path, **options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, default_root_dir=folder, **options,
    )  # fmt: skip


def test_training_leaves_the_generator_bit_for_bit_and_out_of_the_checkpoint(
    tmp_path: Path, generator: str
) -> None:
    task = small_task(generator)
    before = {name: tensor.clone() for name, tensor in task.forward_model.generator.state_dict().items()}
    network = {name: tensor.clone() for name, tensor in task.denoiser.state_dict().items()}
    run = trainer(tmp_path, max_steps=3, limit_val_batches=1, callbacks=[ModelCheckpoint(tmp_path)])
    run.fit(task, datamodule=data(generator))
    assert all(
        torch.equal(tensor, before[name]) for name, tensor in task.forward_model.generator.state_dict().items()
    )
    assert any(not torch.equal(tensor, network[name]) for name, tensor in task.denoiser.state_dict().items())

    checkpoint = torch.load(next(tmp_path.glob("*.ckpt")), weights_only=True)
    assert checkpoint["generator_fingerprint"] == task.forward_model.fingerprint
    assert all(name.startswith("denoiser.network.") for name in checkpoint["state_dict"])
    held = {tuple(tensor.shape) for tensor in checkpoint["state_dict"].values()}
    assert before["synthesis.constant"].shape not in held
    optimized = {id(parameter) for group in run.optimizers[0].param_groups for parameter in group["params"]}
    assert optimized == {id(parameter) for parameter in task.denoiser.parameters()}


def test_the_checkpoint_refuses_another_generator(tmp_path: Path, generator: str) -> None:
    trainer(tmp_path, max_steps=1, limit_val_batches=0, callbacks=[ModelCheckpoint(tmp_path)]).fit(
        small_task(generator), datamodule=data(generator)
    )
    path = str(next(tmp_path.glob("*.ckpt")))
    other = write_small_generator(tmp_path / "other.safetensors", seed=3)
    with pytest.raises(UserError, match="generator"):
        trainer(tmp_path).test(small_task(other), datamodule=data(other), ckpt_path=path)


def test_data_of_another_generator_are_refused(tmp_path: Path, generator: str) -> None:
    other = write_small_generator(tmp_path / "other.safetensors", seed=3)
    with pytest.raises(UserError, match="generators"):
        trainer(tmp_path, max_steps=1).fit(small_task(generator), datamodule=data(other))


def test_codes_of_another_width_are_refused(tmp_path: Path, generator: str) -> None:
    with pytest.raises(UserError, match=r"\b6\b.*\b8\b.*\b3\b.*\b6\b"):
        small_task(generator, layers=3)


@pytest.mark.parametrize("layers", [1, 8])
def test_samples_and_what_is_measured_of_them(tmp_path: Path, generator: str, layers: int) -> None:
    task = small_task(generator, layers).eval()
    module = data(generator)
    module.setup("test")
    batch = module.on_after_batch_transfer(next(iter(module.test_dataloader())), 0)
    scenes = task.test_step(batch, 0)["scenes"]
    assert [scene.key for scene in scenes] == ["seed0000000", "seed0000001"]
    scene = scenes[1]
    network = task.forward_model.generator
    truth = network.codes(draw_noise(network, [1]), truncation=0.7)[0, 0]
    torch.testing.assert_close(scene.true_code, truth)
    whole = F.interpolate(network(truth[None, None]).clamp(-1, 1), size=(16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(scene.truth, whole[0])
    assert scene.codes.shape == (3, layers, 6)
    image = F.interpolate(network(scene.codes[:1]), size=(16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(scene.samples[:1], image)
    assert not torch.allclose(scene.samples[0], scene.samples[1])
    torch.testing.assert_close(scene.mean_code, network.mapping.mean_code)

    alone = task.test_step(batch._replace(key=["x", "seed0000001"]), 0)["scenes"][1]
    torch.testing.assert_close(alone.codes, scene.codes)
    task.plan.leave_out(lambda key, sample: key == "seed0000000")
    assert [scene.key for scene in task.test_step(batch, 0)["scenes"]] == ["seed0000001"]


def test_predictions_have_the_image_at_full_resolution(generator: str) -> None:
    task = small_task(generator, samples=2).eval()
    module = data(generator)
    module.setup("test")
    request = as_request(module.on_after_batch_transfer(next(iter(module.test_dataloader())), 0))
    predictions = list(task.predict_step(request, 0))
    assert [(p.key, p.sample) for p in predictions] == [(f"seed000000{k}", s) for k in (0, 1) for s in (0, 1)]
    for prediction in predictions:
        assert isinstance(prediction.signal, SampledCode)
        full = task.forward_model.generator(prediction.signal.code)[0]
        torch.testing.assert_close(prediction.signal.image, full)
        assert full.shape == (3, 32, 32)
        assert prediction.observation.shape == (1, 3, 16, 16)


def test_an_unconditional_model_sees_no_patch(generator: str) -> None:
    task = small_task(generator).eval()
    module = data(generator)
    module.setup("test")
    batch = module.on_after_batch_transfer(next(iter(module.test_dataloader())), 0)
    dropped = task.denoiser.drop_context(batch.context)
    assert not dropped.observation.any()
    assert not dropped.params.any()


def test_a_denoiser_that_knows_the_code_has_no_loss(generator: str) -> None:
    """Target and observation agree pixel by pixel: the data's downsampling is that of the forward model."""
    task = small_task(generator)
    module = data(generator)
    module.setup("fit")
    batch = module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)
    observed = task.forward_model(batch.truth["code"][:, None], batch.target.params)
    # The data are clamped as image files are: look where no pixel that is averaged was.
    clamped = task.forward_model.full_image(batch.truth["code"][:, None]).abs() > 1
    inside = F.max_pool2d(clamped.float(), 4, stride=2, padding=1)[:, None] == 0
    assert inside.float().mean() > 0.2
    torch.testing.assert_close(observed[inside], batch.target.observation[inside])
