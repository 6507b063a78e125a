"""Softmax splatting: the original's values, a brute-force version, closed forms, finite differences."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dfm_lightning.forward_models.splatting import (
    Splatted,
    splat_average,
    splat_linear,
    splat_softmax,
    splat_sum,
)

CASES = torch.load(Path(__file__).parents[1] / "data" / "softmax_splatting_cases.pt", weights_only=True)
EMPTY = {"": "add", "zeroeps": "zero", "clipeps": "clip"}
MODES = [name for name, value in CASES["collision_1x4"].items() if isinstance(value, dict)]


def splat(mode: str, tensors: dict[str, Tensor], empty: Any = "zero") -> Splatted:
    """Splat by the name of a mode as the reference data has it."""
    image, flow = tensors["input"], tensors["flow"]
    if mode == "sum":
        return splat_sum(image, flow)
    if mode == "avg":
        return splat_average(image, flow, empty)
    if mode == "linear":
        return splat_linear(image, flow, tensors["metric"], empty)
    return splat_softmax(image, flow, tensors["metric"], empty)


def brute_force(image: Tensor, flow: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of pixels and of weights, pixel by pixel and corner by corner."""
    batch, _, height, width = image.shape
    sums, total = torch.zeros_like(image), torch.zeros(batch, 1, height, width, dtype=image.dtype)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                target = flow[b, :, y, x] + torch.tensor([x, y])
                if not target.isfinite().all():
                    continue
                for column in range(width):
                    for row in range(height):
                        share = (1 - (target[0] - column).abs()).clamp(min=0)
                        share = share * (1 - (target[1] - row).abs()).clamp(min=0) * weight[b, 0, y, x]
                        sums[b, :, row, column] += share * image[b, :, y, x]
                        total[b, 0, row, column] += share
    return sums, total


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ["collision_1x4", "integer_9x11"])
def test_values_and_gradients_of_the_original(case: str, mode: str, dtype: torch.dtype, tolerance: float) -> None:
    data, expected = CASES[case], CASES[case][mode]
    kind, _, suffix = mode.partition("-")
    tensors = {name: data[name].to(dtype).clone().requires_grad_() for name in ("input", "flow")}
    if kind in ("linear", "soft"):
        tensors["metric"] = data[f"metric_{kind}"].to(dtype).clone().requires_grad_()
    splatted = splat(kind, tensors, EMPTY[suffix])
    (splatted.image * data["cotangent"].to(dtype)).sum().backward()
    found = {"output": splatted.image, **{f"grad_{name}": tensor.grad for name, tensor in tensors.items()}}
    if kind != "sum":
        found["denominator"] = splatted.weight
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value is not None
        assert value.dtype == dtype
        # Relative to the size of the values around: some of the original's gradients are 5e9.
        error = (value.detach().double() - expected[name]).abs() / (expected[name].abs() + 1)
        assert error.max() <= tolerance, name


def test_brute_force_agrees_where_pixels_meet_leave_the_frame_and_are_not_finite() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, 5, 7, generator=generator, dtype=torch.float64)
    flow = 3 * torch.randn(2, 2, 5, 7, generator=generator, dtype=torch.float64)
    importance = torch.randn(2, 1, 5, 7, generator=generator, dtype=torch.float64)
    flow[0, 0, 2, 3], flow[1, 1, 0, 0], flow[1, :, 4, 6] = torch.nan, torch.inf, -torch.inf
    flow[0, :, 1, 1] = torch.tensor([1e30, -1e30])
    sums, total = brute_force(image, flow, importance.exp())
    found = splat_softmax(image, flow, importance)
    torch.testing.assert_close(found.weight, total, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.image, sums / torch.where(total == 0, 1.0, total), rtol=1e-9, atol=1e-12)


def test_no_motion_changes_nothing() -> None:
    image = torch.randn(2, 3, 33, 61)
    for found in (splat_sum(image, torch.zeros(2, 2, 33, 61)), splat_average(image, torch.zeros(2, 2, 33, 61))):
        assert torch.equal(found.image, image)
        assert torch.equal(found.weight, torch.ones(2, 1, 33, 61))


def test_whole_pixels_move_right_and_down_and_leave_holes() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4) + 1
    flow = torch.zeros(1, 2, 3, 4)
    flow[:, 0], flow[:, 1] = 2, 1
    found = splat_average(image, flow)
    expected = torch.zeros(1, 1, 3, 4)
    expected[..., 1:, 2:] = image[..., :-1, :-2]
    assert torch.equal(found.image, expected)
    assert torch.equal(found.weight == 0, expected == 0)


def test_the_important_pixel_wins() -> None:
    image = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3)
    flow = torch.zeros(1, 2, 1, 3)
    flow[0, 0, 0] = torch.tensor([2.0, 1.0, 0.0])
    importance = torch.tensor([0.0, 20.0, 0.0]).view(1, 1, 1, 3)
    assert splat_softmax(image, flow, importance).image[0, 0, 0, 2] == pytest.approx(2.0, abs=1e-6)
    assert splat_softmax(image, flow, torch.zeros_like(importance)).image[0, 0, 0, 2] == pytest.approx(2.0)
    assert splat_sum(image, flow).image[0, 0, 0, 2] == 6
    assert splat_linear(image, flow, importance / 20).image[0, 0, 0, 2] == 2


@pytest.mark.parametrize("mode", ["sum", "avg", "linear", "soft"])
def test_finite_differences(mode: str) -> None:
    generator = torch.Generator().manual_seed(1)
    draw: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    image, flow = torch.randn(2, 2, 4, 5, **draw), 2 * torch.randn(2, 2, 4, 5, **draw)
    # Away from whole pixels, where the bilinear share has a kink, and so dense that no target is nearly empty.
    flow = flow.round() / 2 + 0.3
    tensors = [image, flow, torch.rand(2, 1, 4, 5, **draw) + 0.5]
    tensors = [tensor.requires_grad_() for tensor in tensors]

    def function(image: Tensor, flow: Tensor, metric: Tensor) -> tuple[Tensor, ...]:
        return tuple(splat(mode, {"input": image, "flow": flow, "metric": metric}))

    assert torch.autograd.gradcheck(function, tensors, eps=1e-6, atol=1e-6)


def test_pixels_of_unknown_motion_have_no_gradient() -> None:
    image, importance = torch.randn(1, 2, 4, 4), torch.randn(1, 1, 4, 4)
    flow = torch.randn(1, 2, 4, 4)
    flow[0, 0, 1, 1], flow[0, 1, 2, 3] = torch.nan, -torch.inf
    tensors = [tensor.requires_grad_() for tensor in (image, flow, importance)]
    found = splat_softmax(*tensors)
    (found.image.sum() + found.weight.square().sum()).backward()
    assert found.image.isfinite().all()
    for tensor in tensors:
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert (tensor.grad[0, :, 1, 1] == 0).all()
        assert (tensor.grad[0, :, 2, 3] == 0).all()
        assert (tensor.grad != 0).any()


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 0, 4, 5), (1, 1, 1, 1)])
def test_empty_batches_and_images(shape: tuple[int, int, int, int]) -> None:
    batch, _, height, width = shape
    image, flow = torch.randn(shape), torch.zeros(batch, 2, height, width)
    tensors = [image.requires_grad_(), flow.requires_grad_(), torch.zeros(batch, 1, height, width)]
    found = splat_softmax(*tensors)
    assert found.image.shape == shape
    assert found.weight.shape == (batch, 1, height, width)
    found.image.sum().backward()


def test_float32_under_autocast_and_for_half_precision_inputs() -> None:
    image, flow = torch.randn(1, 3, 8, 8), 3 * torch.randn(1, 2, 8, 8)
    importance = torch.randn(1, 1, 8, 8)
    expected = splat_softmax(image, flow, importance)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = splat_softmax(image, flow, importance)
    assert torch.equal(found.image, expected.image)
    assert splat_softmax(image.bfloat16(), flow.bfloat16(), importance.bfloat16()).image.dtype == torch.float32
    assert splat_softmax(image, flow.double(), importance).image.dtype == torch.float64


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 9), st.integers(0, 9)),
    flows=st.lists(st.floats(width=32), min_size=1, max_size=20),
    double=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_shape_and_flow(shape: tuple[int, ...], flows: list[float], double: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if double else torch.float32
    batch, _, height, width = shape
    choice = torch.randint(len(flows), (batch, 2, height, width), generator=generator)
    flow = torch.tensor(flows, dtype=dtype)[choice].requires_grad_()
    image = torch.randn(shape, generator=generator).to(dtype).requires_grad_()
    importance = torch.randn(batch, 1, height, width, generator=generator).to(dtype).requires_grad_()
    found = splat_softmax(image, flow, importance)
    found.image.sum().backward()
    assert found.image.isfinite().all()
    # An average lies within what was averaged, and nothing is weighed that was not there.
    if image.numel():
        assert found.image.abs().max() <= image.abs().max() * 1.001
        assert found.weight.sum() <= importance.exp().sum() * 1.001
    assert image.grad is not None
    assert image.grad.isfinite().all()
