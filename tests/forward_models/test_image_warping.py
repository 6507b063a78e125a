"""Warping as a forward model: whole-pixel moves worked out by hand, what fills holes, time, what wins."""

import pytest
import torch
from torch import Tensor

from dfm_lightning.forward_models import ImageWarping
from dfm_lightning.forward_models.image_warping import warp_backward
from dfm_lightning.signals import Motion
from dfm_lightning.types import Moment


def motion(flow: Tensor, importance: Tensor | None = None) -> Motion:
    return Motion(flow, torch.zeros_like(flow[:, :1]) if importance is None else importance)


def moments(image: Tensor, *times: float) -> Moment:
    views = image[:, None].expand(-1, len(times), -1, -1, -1)
    return Moment(views, torch.tensor([times]).expand(len(image), -1))


def image_with_dot(row: int = 3, column: int = 2) -> Tensor:
    torch.manual_seed(0)
    image = 0.1 * torch.rand(1, 3, 8, 8)
    image[:, :, row, column] = 1.0
    return image


def flow_of_dot(x: float, y: float, row: int = 3, column: int = 2) -> Tensor:
    flow = torch.zeros(1, 2, 8, 8)
    flow[0, :, row, column] = torch.tensor([x, y])
    return flow


def test_time_zero_is_the_image_itself() -> None:
    image = torch.rand(2, 3, 5, 7) * 2 - 1
    signal = Motion(3 * torch.randn(2, 2, 5, 7), torch.randn(2, 1, 5, 7))
    torch.testing.assert_close(ImageWarping()(signal, moments(image, 0.0))[:, 0], image)


def test_a_pixel_goes_its_share_of_the_way_and_wins_by_its_importance() -> None:
    image, flow = image_with_dot(), flow_of_dot(4, -2)
    importance = torch.full((1, 1, 8, 8), -1.0)
    importance[..., 3, 2] = 9.0
    observed = ImageWarping().observe(motion(flow, importance), moments(image, 0.5, 1.0))
    for view, (row, column) in enumerate([(2, 4), (1, 6)]):
        expected = image[0].clone()
        expected[:, row, column] = 1.0
        torch.testing.assert_close(observed.observation[0, view], expected, atol=1e-3, rtol=0)
        coverage = torch.ones(1, 8, 8)
        coverage[0, 3, 2] = 0
        torch.testing.assert_close(observed.auxiliary.coverage[0, view], coverage)
    evenly = ImageWarping()(motion(flow), moments(image, 1.0))
    torch.testing.assert_close(evenly[0, 0, :, 1, 6], (1 + image[0, :, 1, 6]) / 2)


def test_coverage_does_not_depend_on_the_importance() -> None:
    image, flow = torch.rand(1, 3, 9, 9), 2 * torch.randn(1, 2, 9, 9)
    signals = [motion(flow), motion(flow, 5 * torch.randn(1, 1, 9, 9))]
    first, second = (ImageWarping().observe(s, moments(image, 1.0)).auxiliary.coverage for s in signals)
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)
    assert (first < 1).any()


def test_what_fills_holes() -> None:
    image, flow = image_with_dot(), flow_of_dot(2, 0)
    # The dot leaves; its place shows nothing, itself, or what lies where its flow came from.
    for holes, expected in (("blank", 0.0), ("still", 1.0), ("backward", image[0, 0, 3, 0])):
        observed = ImageWarping(holes)(motion(flow), moments(image, 1.0))
        assert observed[0, 0, 0, 3, 2].item() == pytest.approx(float(expected), abs=1e-6)
        # Elsewhere all agree.
        other = ImageWarping("still")(motion(flow), moments(image, 1.0))
        same = torch.ones(8, 8, dtype=torch.bool)
        same[3, 2] = False
        torch.testing.assert_close(observed[..., same], other[..., same])


def test_a_surface_that_grows_by_a_quarter_has_no_holes() -> None:
    image = torch.rand(1, 3, 16, 16)
    x = torch.arange(16.0) - 7.5
    flow = 0.25 * torch.stack(torch.meshgrid(x, x, indexing="xy"))[None]
    observed = ImageWarping("blank").observe(motion(flow), moments(image, 1.0))
    assert observed.auxiliary.coverage.min() == 1
    constant = ImageWarping("blank")(motion(flow), moments(torch.ones_like(image), 1.0))
    torch.testing.assert_close(constant, torch.ones_like(constant))


def test_backward_warping_reads_where_the_flow_came_from() -> None:
    image = torch.rand(1, 3, 6, 6)
    flow = torch.zeros(1, 2, 6, 6)
    flow[:, 0], flow[:, 1] = 2, -1
    warped = warp_backward(image, flow)
    torch.testing.assert_close(warped[..., :5, 2:], image[..., 1:, :4])
    torch.testing.assert_close(warped[..., :5, 0], image[..., 1:, 0])


def test_finite_differences() -> None:
    # In float32, the precision of the forward model: a directional derivative.
    torch.manual_seed(0)
    image, forward = torch.rand(1, 3, 6, 6), ImageWarping("backward")
    flow, importance = 0.7 * torch.randn(1, 2, 6, 6), torch.randn(1, 1, 6, 6)
    tensors = [flow.requires_grad_(), importance.requires_grad_()]
    cotangent = torch.randn(1, 1, 3, 6, 6)
    value = (forward(Motion(*tensors), moments(image, 1.0)) * cotangent).sum()
    gradients = torch.autograd.grad(value, tensors)
    directions = [torch.randn_like(t) for t in tensors]
    step = 2e-4

    def shifted(sign: float) -> Tensor:
        moved = [t.detach() + sign * step * d for t, d in zip(tensors, directions, strict=True)]
        return (forward(Motion(*moved), moments(image, 1.0)).double() * cotangent).sum()

    numeric = (shifted(1) - shifted(-1)) / (2 * step)
    analytic = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    assert float(numeric) == pytest.approx(float(analytic), rel=2e-2)


def test_float32_under_autocast() -> None:
    image, signal = torch.rand(1, 3, 8, 8), motion(torch.randn(1, 2, 8, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ImageWarping()(signal, moments(image, 1.0))
    assert torch.equal(found, ImageWarping()(signal, moments(image, 1.0)))
