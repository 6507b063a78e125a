"""Distortion and smoothness against their definitions, closed forms and finite differences."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.losses import distortion, edge_aware_smoothness, ray_distortion

# A training step of the original code on a small model with random weights: see tests/data/README.md.
ORIGINAL = Path(__file__).parents[1] / "data" / "original_depth_losses.pt"


def random_rays(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(shape, dtype=torch.float64, generator=generator)
    distances = torch.rand(shape, dtype=torch.float64, generator=generator).sort(dim=-1).values * 3 + 1
    return weights / weights.sum(dim=-1, keepdim=True), distances


def distortion_by_definition(weights: list[float], positions: list[float], widths: list[float]) -> float:
    """Mip-NeRF 360, eq. 15, as it stands there: every pair of intervals."""
    rays = range(len(weights))
    between = sum(weights[i] * weights[j] * abs(positions[i] - positions[j]) for i in rays for j in rays)
    return between + sum(weights[i] ** 2 * widths[i] for i in rays) / 3


def test_distortion_is_the_sum_over_all_pairs() -> None:
    weights, positions = random_rays(5, 13)
    widths = torch.rand(5, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = [
        distortion_by_definition(*ray)
        for ray in zip(weights.tolist(), positions.tolist(), widths.tolist(), strict=True)
    ]
    torch.testing.assert_close(distortion(weights, positions, widths).tolist(), expected, rtol=1e-12, atol=0)


def test_uniform_weights_approach_the_continuous_value() -> None:
    # A uniform density on [0, 1]: ∬ |x − y| dx dy = 1/3.
    n = 2000
    edges = torch.linspace(2, 6, n + 1, dtype=torch.float64)
    weights = torch.full((1, n + 1), 1 / n, dtype=torch.float64)
    assert float(ray_distortion(weights, edges[None], 2.0, 6.0)) == pytest.approx(1 / 3, rel=1e-3)


def test_ray_distortion_uses_normalised_left_ends_and_drops_the_last_sample() -> None:
    weights, distances = random_rays(7, 9)
    near, far = 0.5, 5.0
    expected = 0.0
    for w, z in zip(weights.tolist(), distances.tolist(), strict=True):
        s = [(value - near) / (far - near) for value in z]
        expected += distortion_by_definition(w[:-1], s[:-1], [b - a for a, b in pairwise(s)]) / 7
    assert float(ray_distortion(weights, distances, near, far)) == pytest.approx(expected, rel=1e-12)


def test_all_weight_in_one_interval_costs_a_third_of_its_width() -> None:
    weights = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    distances = torch.tensor([[0.0, 2.0, 4.0, 10.0]])
    assert float(ray_distortion(weights, distances, 0.0, 10.0)) == pytest.approx(0.2 / 3)


def test_distortion_stays_precise_under_autocast() -> None:
    weights, distances = (part.float() for part in random_rays(64, 128))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = ray_distortion(weights, distances, 1.0, 4.0)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, ray_distortion(weights, distances, 1.0, 4.0), rtol=0, atol=0)


def test_gradients_agree_with_finite_differences() -> None:
    weights, distances = random_rays(2, 6)
    torch.autograd.gradcheck(
        lambda w, z: ray_distortion(w, z, 0.5, 5.0), (weights.requires_grad_(), distances.requires_grad_())
    )
    depth, image = random_patch()
    torch.autograd.gradcheck(lambda d: edge_aware_smoothness(d, image, 0.1, 10.0), (depth.requires_grad_(),))


def random_patch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    depth = torch.rand(2, 1, 4, 5, dtype=torch.float64, generator=generator) * 3 + 1
    image = torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=generator) * 2 - 1
    return depth, image


def smoothness_by_definition(
    depth: Float[Tensor, "n 1 h w"], image: Float[Tensor, "n 3 h w"], low: float, high: float
) -> float:
    """Pixel by pixel."""
    total, count = 0.0, 0
    for patch, colours in zip(depth[:, 0].tolist(), image.permute(0, 2, 3, 1).tolist(), strict=True):
        disparity = [[1 / min(max(value, low), high) for value in row] for row in patch]
        height, width = len(disparity), len(disparity[0])
        mean = sum(map(sum, disparity)) / (height * width)
        for y in range(height):
            for x in range(width):
                for y2, x2 in ((y + 1, x), (y, x + 1)):
                    if y2 < height and x2 < width:
                        pairs = zip(colours[y2][x2], colours[y][x], strict=True)
                        edge = sum(abs(a - b) for a, b in pairs) / 3
                        total += abs(disparity[y2][x2] - disparity[y][x]) / mean * math.exp(-edge)
                count += 1
    return total / count


def test_smoothness_is_its_definition() -> None:
    depth, image = random_patch()
    depth[0, 0, 0, 0], depth[1, 0, 2, 2] = 0.0, 99.0
    for bounds in ((0.5, 3.5), (1e-3, 80.0)):
        expected = smoothness_by_definition(depth, image, *bounds)
        assert float(edge_aware_smoothness(depth, image, *bounds)) == pytest.approx(expected, rel=1e-12)


def test_smoothness_of_a_disparity_ramp() -> None:
    # Disparity 1, 2, 3, 4 across, mean 2.5, no edges: 3 steps of 0.4 in each row of 4.
    depth = (1 / torch.arange(1.0, 5.0)).expand(1, 1, 6, 4)
    assert float(edge_aware_smoothness(depth, torch.zeros(1, 3, 6, 4), 0.01, 10.0)) == pytest.approx(0.3)


def test_an_edge_in_the_image_excuses_a_step_in_depth() -> None:
    depth = torch.ones(1, 1, 4, 4)
    depth[..., 2:] = 4.0
    image = torch.full((1, 3, 4, 4), -1.0)
    flat = edge_aware_smoothness(depth, image, 0.1, 10.0)
    image[..., 2:] = 1.0
    torch.testing.assert_close(edge_aware_smoothness(depth, image, 0.1, 10.0), flat * math.exp(-2.0))


def test_with_a_low_clamp_one_ray_of_no_depth_silences_the_rest_of_its_patch() -> None:
    depth, image = random_patch()
    depth[0, 0, 1, 1] = 0.0
    depth.requires_grad_()
    neighbour = (0, 0, 3, 4)
    heard = torch.autograd.grad(edge_aware_smoothness(depth, image, 1.0, 10.0), depth)[0][neighbour]
    drowned = torch.autograd.grad(edge_aware_smoothness(depth, image, 1e-3, 80.0), depth)[0][neighbour]
    assert abs(drowned) < abs(heard) / 10


def test_the_original_numbers() -> None:
    step = torch.load(ORIGINAL, weights_only=True)
    loss = ray_distortion(step["weights"], step["distances"], near=0.7, far=10.0)
    assert float(loss) == pytest.approx(step["distortion_loss"], rel=1e-6)
    loss = edge_aware_smoothness(step["depth"], step["image"], min_depth=1e-3, max_depth=80.0)
    assert float(loss) == pytest.approx(step["smoothness_loss"], rel=1e-6)


def test_smoothness_of_coarse_numbers_is_computed_in_float32() -> None:
    """Of a depth in bfloat16 it is what float32 gives of the same numbers: 1 / depth is not rounded once more."""
    generator = torch.Generator().manual_seed(2)
    depth = (torch.rand(3, 1, 8, 8, generator=generator) * 3 + 1).bfloat16()
    image = torch.rand(3, 3, 8, 8, generator=generator).bfloat16()
    coarse = edge_aware_smoothness(depth, image, 0.5, 5.0)
    assert coarse.dtype == torch.float32
    assert torch.equal(coarse, edge_aware_smoothness(depth.float(), image.float(), 0.5, 5.0))
    doubled = edge_aware_smoothness(depth.double(), image.double(), 0.5, 5.0)
    assert doubled.dtype == torch.float64
    torch.testing.assert_close(coarse.double(), doubled, rtol=1e-5, atol=0)
