"""The frozen generator as a forward model: gradients, downsampling, masks, and what stays out of checkpoints."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dfm_lightning.errors import UserError
from dfm_lightning.forward_models import ImageGeneration
from dfm_lightning.geometry.images import downsample, tensor_to_image
from dfm_lightning.networks.stylegan2.architecture import Architecture
from dfm_lightning.networks.stylegan2.generator import Generator
from dfm_lightning.networks.stylegan2.storage import write_generator


@pytest.fixture
def generator_file(tmp_path: Path) -> str:
    torch.manual_seed(0)
    path = tmp_path / "generator.safetensors"
    write_generator(Generator(Architecture(3, 4, (4, 4, 3), (4,))), path)
    return str(path)


def test_observes_downsampled_images_through_masks(generator_file: str) -> None:
    model = ImageGeneration(generator_file)
    codes = torch.randn(2, 1, 4)
    masks = (torch.rand(2, 3, 1, 8, 8) > 0.5).float()
    observation = model(codes, masks)
    assert observation.shape == (2, 3, 3, 8, 8)
    whole = downsample(model.generator(codes), (8, 8))
    torch.testing.assert_close(observation, whole[:, None] * masks)
    assert model.full_image(codes).shape == (2, 3, 16, 16)


def test_a_code_per_layer(generator_file: str) -> None:
    model = ImageGeneration(generator_file)
    code, mask = torch.randn(1, 1, 4), torch.ones(1, 1, 1, 16, 16)
    torch.testing.assert_close(model(code.expand(-1, 6, -1), mask), model(code, mask))
    assert not torch.allclose(model(torch.randn(1, 6, 4), mask), model(code, mask))


def test_downsampling_is_that_of_pillow() -> None:
    torch.manual_seed(0)
    picture = tensor_to_image(torch.rand(3, 30, 30) * 2 - 1)
    pixels = torch.from_numpy(np.asarray(picture)).double().permute(2, 0, 1)
    channels = [
        Image.fromarray(channel.numpy().astype("float32"), mode="F").resize((8, 8), Image.Resampling.BILINEAR)
        for channel in pixels
    ]
    expected = torch.from_numpy(np.stack([np.asarray(channel) for channel in channels])).double()
    torch.testing.assert_close(downsample(pixels[None], (8, 8))[0], expected, rtol=1e-5, atol=1e-4)


def test_gradients_through_generator_and_downsampling(generator_file: str) -> None:
    model = ImageGeneration(generator_file).double()
    codes = torch.randn(1, 1, 4, dtype=torch.float64, requires_grad=True)
    masks = (torch.rand(1, 2, 1, 5, 5) > 0.3).double()
    assert torch.autograd.gradcheck(lambda signal: model(signal, masks), (codes,))


def test_the_generator_is_in_no_state_and_has_no_gradient(generator_file: str) -> None:
    model = ImageGeneration(generator_file)
    assert list(model.parameters()) == []
    assert model.state_dict() == {}
    assert not model.train().generator.training
    codes = torch.randn(1, 1, 4, requires_grad=True)
    model(codes, torch.ones(1, 1, 1, 8, 8)).sum().backward()
    assert codes.grad is not None
    assert all(parameter.grad is None for parameter in model.generator.parameters())


def test_the_generator_moves_with_the_model(generator_file: str) -> None:
    owner = torch.nn.Sequential(ImageGeneration(generator_file)).double()
    assert owner[0].generator.mapping.mean_code.dtype == torch.float64
    assert copy.deepcopy(owner)[0].fingerprint == owner[0].fingerprint


def test_a_generator_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no_such.*dfm convert stylegan2"):
        ImageGeneration(str(tmp_path / "no_such.safetensors"))
