"""The U-Net over images and volumes."""

import pytest
import torch
from torch.nn import functional as F

from dfm_lightning.networks.unet import ConditionedBlock, GlobalAttention, UNet, VolumeConvolution


def trained(module: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter a value other than zero, as training would."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.double()


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_block_starts_as_its_shortcut(dimensions: int) -> None:
    x = torch.randn(2, 8, *[4] * dimensions)
    assert torch.equal(ConditionedBlock(dimensions, 8, 8, 5)(x, torch.randn(2, 5)), x)


def test_a_block_is_two_convolutions_with_the_condition_between_them() -> None:
    block = trained(ConditionedBlock(2, 8, 16, 3))
    x, condition = torch.randn(2, 8, 5, 5).double(), torch.randn(2, 3).double()
    scale, shift = block.modulation(condition)[:, :, None, None].chunk(2, dim=1)
    first, second = block.first_norm, block.second_norm
    hidden = F.silu(F.group_norm(x, 8, first.weight, first.bias))
    hidden = F.conv2d(hidden, block.first.weight, block.first.bias, 1, 1)
    hidden = F.group_norm(hidden, 8, second.weight, second.bias) * (1 + scale) + shift
    hidden = F.conv2d(F.silu(hidden), block.second.weight, block.second.bias, 1, 1)
    expected = hidden + F.conv2d(x, block.shortcut.weight, block.shortcut.bias)
    torch.testing.assert_close(block(x, condition), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(("inputs", "outputs", "side"), [(16, 8, 3), (9, 8, 1)])
def test_one_volume_is_convolved_like_several_and_as_quickly(
    inputs: int, outputs: int, side: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    convolution = VolumeConvolution(inputs, outputs, side, padding=side // 2).to(memory_format=layout)
    x = torch.randn(1, inputs, 6, 4, 8).contiguous(memory_format=layout).requires_grad_()
    weight, bias, exact = (part.detach().double().requires_grad_() for part in (*convolution.parameters(), x))
    expected = F.conv3d(exact, weight, bias, padding=side // 2)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        with torch.no_grad():
            alone = convolution(x)
        result = convolution(x)
        result.sin().sum().backward()
    for found in (alone, result):
        torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-5)
    expected.sin().sum().backward()
    for found, known in zip((*convolution.parameters(), x), (weight, bias, exact), strict=True):
        torch.testing.assert_close(found.grad, known.grad.float(), rtol=1e-4, atol=1e-4)
    if torch.backends.mkldnn.is_available() and side > 1:  # neither forwards nor backwards
        assert not [event.name for event in seen.events() if "slow_conv" in event.name]


def test_attention_agrees_with_pytorchs_module() -> None:
    attention = trained(GlobalAttention(16, heads=4))
    oracle = torch.nn.MultiheadAttention(16, 4, batch_first=True).double()
    with torch.no_grad():
        oracle.in_proj_weight.copy_(attention.queries_keys_values.weight)
        oracle.in_proj_bias.copy_(attention.queries_keys_values.bias)
        oracle.out_proj.weight.copy_(attention.output.weight)
        oracle.out_proj.bias.copy_(attention.output.bias)
    x = torch.randn(2, 16, 2, 3, 2).double()
    tokens = attention.norm(x).flatten(2).mT
    expected = x + oracle(tokens, tokens, tokens)[0].mT.reshape(x.shape)
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_all_parameters_and_the_condition_take_part(dimensions: int) -> None:
    net = trained(UNet(dimensions, 5, 7, [8, 16], 3))
    x = torch.randn(2, 5, *[4] * dimensions).double()
    condition = torch.randn(2, 3).double().requires_grad_()
    out = net(x, condition)
    assert out.shape == (2, 7, *[4] * dimensions)
    out.square().sum().backward()
    idle = [name for name, parameter in net.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert idle == []
    assert condition.grad.abs().sum() > 0


def test_sees_from_one_corner_to_the_other_and_not_from_one_scene_to_another() -> None:
    net = trained(UNet(3, 2, 1, [8, 8], 3))
    x = torch.randn(2, 2, 8, 8, 8).double().requires_grad_()
    net(x, torch.zeros(2, 3).double())[0, 0, 0, 0, 0].backward()
    assert x.grad[0, :, -1, -1, -1].abs().sum() > 0
    assert x.grad[1].abs().sum() == 0


def test_refuses_sides_that_do_not_halve() -> None:
    with pytest.raises(ValueError, match="6×5"):
        UNet(2, 1, 1, [8, 8], 3)(torch.zeros(1, 1, 6, 5), torch.zeros(1, 3))


@pytest.mark.parametrize("widths", [[], [12], [0]])
def test_refuses_widths_that_groups_do_not_divide(widths: list[int]) -> None:
    with pytest.raises(ValueError, match="widths"):
        UNet(2, 1, 1, widths, 3)
