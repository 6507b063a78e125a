"""Validation scenes outside of a trainer: as the data module's hooks make them, as many as are asked for."""

from pathlib import Path

import torch
from gan_problem import write_small_generator

from datamodules.ffhq_gan import FFHQGANDataModule
from dfm_lightning.geometry.images import downsample
from dfm_lightning.networks.stylegan2.sampling import GeneratorSamples
from dfm_lightning.tuning.tuning import validation_scenes


def test_batches_that_are_made_on_the_device(tmp_path: Path) -> None:
    # Its loaders yield seeds; images are drawn after the transfer.
    generator = GeneratorSamples(write_small_generator(tmp_path / "generator.safetensors"), 0.7)
    data = FFHQGANDataModule(
        generator, resolution=16, patch_sides=(4, 8), train_seeds=(0, 40), val_seeds=(40, 45), batch_size=2
    )
    batches = validation_scenes(data, 3, "cpu")
    assert [list(batch.key) for batch in batches] == [["seed0000040", "seed0000041"], ["seed0000042"]]
    _, images = generator.draw([42], torch.device("cpu"))
    expected = downsample(images, (16, 16))
    torch.testing.assert_close(batches[1].target.observation[0], expected, rtol=0, atol=1e-4)
