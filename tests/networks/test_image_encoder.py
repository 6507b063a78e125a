import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dfm_lightning.networks.convolution import Convolution3x3
from dfm_lightning.networks.image_encoder import ImageEncoder


def small_encoder(absolute_pose: bool = False) -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(16, 1, 2, 6, 3, 5, 4, patch=2, absolute_pose=absolute_pose)


def pose(batch: int) -> torch.Tensor:
    return torch.eye(4).expand(batch, 4, 4)


def test_convolution_is_that_of_torch_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    layer = Convolution3x3(7, 5).double()
    image = torch.randn(2, 7, 6, 9, dtype=torch.float64, requires_grad=True)
    result = layer(image).permute(0, 3, 1, 2)
    expected = F.conv2d(image, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(result, expected)
    weights = torch.randn_like(expected)
    inputs = (image, layer.weight, layer.bias)
    for ours, theirs in zip(
        torch.autograd.grad((result * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_features_start_at_zero_and_the_first_step_can_change_them_through_both_paths() -> None:
    encoder = small_encoder()
    features = encoder.encode_context(torch.randn(2, 3, 8, 12), pose(2))
    assert features.shape == (2, 8, 12, 6)
    assert not features.any()
    features.sum().backward()
    gradient = encoder.refine.weight.grad
    assert gradient is not None
    assert gradient[:, :6].abs().max() > 0, "features of the DiT"
    assert gradient[:, 6:].abs().max() > 0, "features past the DiT"


def test_the_target_is_encoded_with_its_estimate_its_level_and_its_pose() -> None:
    encoder = small_encoder(absolute_pose=True)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.2)
    noisy, estimate = torch.randn(1, 3, 8, 8), torch.randn(1, 7, 8, 8)
    level = torch.tensor([5])
    base = encoder.encode_target(noisy, estimate, level, pose(1))
    moved = pose(1).clone()
    moved[:, 1, 3] = 0.7
    turned = pose(1).clone()
    turned[:, 3, 3] = 9.0  # The last row of a pose says nothing.
    assert not torch.allclose(base, encoder.encode_target(noisy, estimate + 0.1, level, pose(1)))
    assert not torch.allclose(base, encoder.encode_target(noisy, estimate, level + 100, pose(1)))
    assert not torch.allclose(base, encoder.encode_target(noisy, estimate, level, moved))
    torch.testing.assert_close(base, encoder.encode_target(noisy, estimate, level, turned))


def test_checkpointing_keeps_less_for_the_same_gradients() -> None:
    gradients, kept = [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        encoder = ImageEncoder(16, 3, 2, 6, 3, 5, 4, checkpointing=checkpointing)
        for parameter in encoder.parameters():
            nn.init.normal_(parameter, std=0.2)
        sizes: list[int] = []

        def keep(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            features = encoder.encode_context(torch.rand(2, 3, 8, 8), pose(2))
        kept.append(sum(sizes))
        features.square().mean().backward()
        gradients.append([parameter.grad for parameter in encoder.core.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    assert kept[1] < 0.8 * kept[0]


def test_the_skip_sees_the_image_alone() -> None:
    encoder = small_encoder()
    nn.init.normal_(encoder.refine.weight)
    with torch.no_grad():
        encoder.refine.weight[:, :6] = 0
        noisy, level = torch.randn(1, 3, 8, 8), torch.tensor([5])
        features = [encoder.encode_target(noisy, torch.randn(1, 7, 8, 8), level, pose(1)) for _ in range(2)]
        torch.testing.assert_close(*features)
        torch.testing.assert_close(features[0], encoder.encode_context(noisy, pose(1)))


def test_a_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="8×10"):
        small_encoder().encode_context(torch.zeros(1, 3, 8, 10), pose(1))
