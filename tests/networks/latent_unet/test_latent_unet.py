"""The latent U-Net against SparseFusion's released code, whole and stage by stage."""

import math

import pytest
import torch
from sparsefusion_reference import PRECISIONS, check, reference, state_by_recipe, uniforms
from torch import Tensor, nn

from dfm_lightning.checkpoints.sparsefusion_layout import name_unet, unet_sizes
from dfm_lightning.networks.latent_unet import LatentUNet

# Stages of theirs, and the modules here that give the same.
STAGES = {
    "init_conv": "input",
    "downs.0.4": "down.0.change",
    "downs.1.4": "down.1.change",
    "downs.2.4": "down.2.change",
    "downs.3.3": "down.3.transformer",
    "downs.3.4": "down.3.change",
    "mid_block1": "middle_first",
    "mid_block2": "middle_second",
    "ups.0.3": "up.0.change",
    "ups.1.3": "up.1.change",
    "ups.2.3": "up.2.change",
    "ups.3.3": "up.3.change",
    "final_res_block": "last_block",
}


def released_unet() -> LatentUNet:
    named = name_unet(reference()["unet"]["state_dict"])
    model = LatentUNet(**unet_sizes(named.state)._asdict())
    model.load_state_dict(named.state)
    return model.eval()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_output_and_stages_are_the_released_ones(precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    case = reference()["unet"]
    expected, model = case[precision], released_unet().to(dtype)
    found: dict[str, Tensor] = {}

    def keep(name: str) -> None:
        def hook(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            found[name] = output[0]

        model.get_submodule(STAGES[name]).register_forward_hook(hook)

    for name in STAGES:
        keep(name)
    with torch.no_grad():
        output = model(case["x"].to(dtype), case["cond"].to(dtype), expected["log_snr"])
        vector, tokens = model.time(expected["log_snr"])
    check(output, expected["output"], tolerance)
    stages = expected["stages_of_item_0"]
    check(vector[0], stages["to_time_cond"], tolerance)
    check(tokens[0], stages["norm_cond"], tolerance)
    for name in STAGES:
        check(found[name], stages[name], tolerance)


@pytest.mark.slow
def test_full_size_is_the_released_one() -> None:
    case = reference()["unet_full_size"]
    seed = case["recipe_seed"]
    named = name_unet(state_by_recipe(case["keys"], seed))
    sizes = unet_sizes(named.state)
    assert sizes._asdict() == {
        "condition_channels": 256, "latent_channels": 4, "width": 256, "multipliers": (1, 2, 4, 4), "blocks": 2,
        "attention": (False, False, False, True), "heads": 8, "head_width": 64, "cross_heads": 8,
        "cross_head_width": 64,
    }  # fmt: skip
    with torch.device("meta"):
        model = LatentUNet()
    model.load_state_dict(named.state, assign=True)
    unused = sum(math.prod(case["keys"][key]) for keys in named.left_out.values() for key in keys)
    assert sum(parameter.numel() for parameter in model.parameters()) + unused == case["parameters"]
    condition = (
        torch.from_numpy(math.sqrt(12) * uniforms("cond", 256 * 32 * 32, seed)).float().view(1, 256, 32, 32)
    )
    check(condition[:, :2, :4, :4], case["cond_corner"], 1e-6)
    with torch.no_grad():
        output = model.eval()(case["x"], condition, case["log_snr"])
    check(output, case["float32"]["output"], 1e-4)


def test_a_new_network_predicts_nothing_and_can_learn() -> None:
    torch.manual_seed(0)
    model = LatentUNet(3, 2, 8, (1, 2), 1, (False, True), 2, 4, 2, 4)
    noisy, condition = torch.randn(2, 2, 4, 4), torch.randn(2, 3, 4, 4)
    output = model(noisy, condition, torch.tensor([1.0, -1.0]))
    assert not output.any()
    output.square().sum().backward()
    nn.init.ones_(model.output.weight)
    model(noisy, condition, torch.tensor([1.0, -1.0])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_sides_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 2"):
        LatentUNet(3, 2, 8, (1, 2), 1, (False, True), 2, 4)(
            torch.zeros(1, 2, 5, 4), torch.zeros(1, 3, 5, 4), torch.zeros(1)
        )
