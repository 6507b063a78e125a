"""LPIPS reads its weights from a file, says what is missing, and stays out of the task."""

import copy
from pathlib import Path

import lpips
import pytest
import torch
import torchvision
from torch import nn

from dfm_lightning.errors import UserError
from dfm_lightning.losses import PerceptualLoss


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AlexNet's convolutions with random weights, in torchvision's format."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    features = torchvision.models.alexnet().features.state_dict(prefix="features.")
    torch.save(features, path)
    return path


def images(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.rand(2, 2, 3, size, size, generator=generator) * 2 - 1
    return first, second


def test_the_files_trunk_is_used(weights: Path) -> None:
    first, second = images(64)
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    trunk = torchvision.models.alexnet()
    trunk.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    layers = [layer for layer in trunk.features if isinstance(layer, nn.Conv2d)]
    slices = [m for m in reference.net.modules() if isinstance(m, nn.Conv2d)]
    for theirs, ours in zip(slices, layers, strict=True):
        theirs.load_state_dict(ours.state_dict())
    expected = reference(first, second).mean()
    torch.testing.assert_close(PerceptualLoss("alex", str(weights))(first, second), expected)
    assert expected > 0.01


def test_gradient_reaches_the_image_and_nothing_else(weights: Path) -> None:
    loss = PerceptualLoss("alex", str(weights))
    first, second = images(64)
    loss(first.requires_grad_(), second).backward()
    assert first.grad is not None
    assert first.grad.abs().max() > 0
    assert float(loss(second, second)) == 0


def test_it_is_no_part_of_a_module_and_copies_share_it(weights: Path) -> None:
    class Task(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.perceptual = PerceptualLoss("alex", str(weights))
            self.perceptual.prepare()

    task = Task()
    assert not task.state_dict()
    assert not list(task.parameters())
    assert copy.deepcopy(task).perceptual._network is task.perceptual._network


def test_reading_it_leaves_the_random_numbers_alone(weights: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    PerceptualLoss("alex", str(weights)).prepare()
    assert torch.rand(1) == expected


def test_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError) as caught:
        PerceptualLoss().prepare()
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth") in message
    assert "https://download.pytorch.org/models/vgg16-397923af.pth" in message


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.pth"):
        PerceptualLoss("alex", str(path)).prepare()


def test_weights_of_another_network_are_refused(weights: Path) -> None:
    with pytest.raises(UserError, match="does not hold"):
        PerceptualLoss("vgg", str(weights)).prepare()


@pytest.mark.slow
def test_a_patch_of_24_pixels_is_enough_for_vgg(tmp_path: Path) -> None:
    path = tmp_path / "vgg.pth"
    torch.save(torchvision.models.vgg16().features.state_dict(prefix="features."), path)
    loss = PerceptualLoss("vgg", str(path))
    for size in (24, 16):
        assert loss(*images(size)) > 0
    with pytest.raises(ValueError, match="16"):
        loss(*images(15))
