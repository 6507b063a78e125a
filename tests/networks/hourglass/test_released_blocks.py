"""Blocks of the hourglass transformer against what InvFusion's released ones computed."""

from collections.abc import Iterator

import pytest
import torch
from released import DATA, renamed
from torch import Tensor

from dfm_lightning.forward_models.linear import Matrix, Zero, mask_operator, zero_operator
from dfm_lightning.networks.hourglass import FeatureDegradation, Measured
from dfm_lightning.networks.hourglass.attention import Attention, axial_frequencies, window_mask
from dfm_lightning.networks.hourglass.layers import FeedForward


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def present(count: int) -> Tensor:
    return torch.ones(count)


def test_feature_degradation() -> None:
    case = DATA["feature_degradation"]
    layer = FeatureDegradation(96, case["patch"], 3).double()
    assert layer.copies == case["k"]
    layer.linear.weight.data = case["layer"]["deg_linear.weight"].double()
    layer.linear.bias.data = case["layer"]["deg_linear.bias"].double()
    matrix = case["matrix"].double().unflatten(-1, (3, 16, 16))
    inverse = case["matrix_pinv"].double().mT.unflatten(-1, (3, 16, 16))
    mask = mask_operator(case["mask"].double())
    for name, operator, shape in (("mask", mask, (3, 16, 16)), ("matrix", Matrix(matrix, inverse), (24, 1, 1))):
        measured = Measured(operator, case[f"{name}_y"].view(2, *shape), present(2))
        assert layer(case["tokens"], measured) == pytest.approx(case[f"{name}_out"], abs=1e-9)
    zero: Zero = zero_operator((2, 3, 16, 16))
    nothing = Measured(zero, torch.zeros(2, 3, 1, 1), present(2))
    assert layer(case["tokens"], nothing) == pytest.approx(case["none_out"], abs=1e-12)


def test_what_is_not_there_says_nothing_even_if_it_is_no_number() -> None:
    case = DATA["feature_degradation"]
    layer = FeatureDegradation(96, case["patch"], 3).double()
    measurement = torch.stack([torch.full((3, 16, 16), torch.nan), torch.ones(3, 16, 16)]).double()
    measured = Measured(mask_operator(case["mask"].double()), measurement, torch.tensor([0.0, 1.0]))
    found = layer(case["tokens"], measured)
    assert not found[0].any()
    assert found[1].any()


def test_the_layout_of_tokens_is_undone() -> None:
    layer = FeatureDegradation(96, 4, 3)
    tokens = torch.randn(2, 3, 5, 96)
    assert torch.equal(layer.tokens(layer.images(tokens)), tokens)


@pytest.mark.parametrize("kind", ["global", "neighbourhood"])
def test_attention(kind: str) -> None:
    case = DATA["attention"]
    window = case["kernel_size"] if kind == "neighbourhood" else None
    layer = Attention(96, case["d_head"], 24, window, 0.0, joint=True).double()
    layer.load_state_dict({name: value.double() for name, value in renamed(case[f"{kind}_block"]).items()})
    layer.frequencies = case["rope_freqs"].double()
    tokens, condition = case["tokens"], case["cond"]
    assert layer(tokens, condition) == pytest.approx(case[f"{kind}_plain"], abs=1e-9)
    assert layer(tokens, condition, [case["extra"]]) == pytest.approx(case[f"{kind}_joint"], abs=1e-9)


def test_frequencies_of_positions() -> None:
    assert axial_frequencies(6, 16) == pytest.approx(DATA["attention"]["rope_freqs"].float(), rel=1e-6)


def test_windows_are_shifted_inwards_at_the_borders() -> None:
    mask = window_mask(6, 5, 3, torch.device("cpu")).view(6, 5, 6, 5)
    assert (mask.flatten(2).sum(2) == 9).all()
    assert mask[0, 0, :3, :3].all()
    assert mask[5, 2, 3:, 1:4].all()
    assert mask[2, 2, 1:4, 1:4].all()
    # Windows larger than the grid see all of it.
    assert window_mask(2, 5, 3, torch.device("cpu")).view(2, 5, 2, 5)[0, 0, :, :3].all()


def test_feed_forward() -> None:
    case = DATA["feed_forward"]
    layer = FeedForward(96, 192, 24, 0.0).double()
    layer.load_state_dict({name: value.double() for name, value in renamed(case["block"]).items()})
    assert layer(case["tokens"], case["cond"]) == pytest.approx(case["out"], abs=1e-9)
