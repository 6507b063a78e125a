"""Points left out of the fine pass."""

import math
from typing import Any

import pytest
import torch
from known_fields import KnownField, cameras_at, position_colour
from torch import Tensor

from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.forward_models.skipping import brightest, most_light, query_chosen

NEAR, FAR = 1.0, 5.0


def ball(points: Tensor) -> Tensor:
    return 40 * ((points - points.new_tensor([0.2, 0.0, 3.0])).norm(dim=-1) < 0.8).to(points)


def rendered(**settings: Any) -> tuple[Tensor, KnownField]:
    """A dense ball before a white background, and the field, which has counted the points."""
    field = KnownField(ball, position_colour)
    how = {"near": NEAR, "far": FAR, "coarse_samples": 32, "fine_samples": 24, "background": (1.0, 1.0, 1.0)}
    return VolumeRendering(**{**how, **settings}).eval()(field, cameras_at([[0, 0, 0]], 9)), field


def test_the_bound_is_that_of_a_walk_along_the_ray() -> None:
    generator = torch.Generator().manual_seed(0)
    density = torch.rand(1, 3, 4, generator=generator, dtype=torch.float64) * 3 - 0.5
    coarse = torch.linspace(1, 4, 4, dtype=torch.float64).expand(1, 3, 4)
    others = 1 + 3 * torch.rand(1, 3, 5, generator=generator, dtype=torch.float64)
    distances, order = torch.cat([coarse, others], dim=-1).sort(dim=-1)
    found = most_light(density, distances, order)
    for ray in range(3):
        arriving = 1.0
        for place in range(9):
            at = distances[0, ray, place].item()
            before = max(index for index in range(4) if coarse[0, ray, index] <= at)
            ends = [max(0.0, density[0, ray, min(before + step, 3)].item()) for step in (0, 1)]
            first = min(place, 7)
            length = (distances[0, ray, first + 1] - distances[0, ray, first]).item()
            assert found[0, ray, place].item() == pytest.approx(arriving * (1 - math.exp(-max(ends) * length)))
            arriving *= math.exp(-min(ends) * length)


def test_the_dimmest_points_go_as_long_as_their_light_fits() -> None:
    weights = torch.tensor([[[0.5, 0.02, 0.3, 0.01, 0.0, 0.04]]])
    chosen = brightest(weights, 0.025)
    assert chosen.tolist() == [[[True, True, True, False, False, True]]]


def test_other_points_are_empty_and_each_element_has_its_own() -> None:
    points = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    chosen = torch.tensor([[False, True, False, True, False, True], [False, False, False, False, True, False]])
    field = KnownField(lambda points: 1 + points[..., 0].square(), position_colour)
    found = query_chosen(field, points, chosen, "fine")
    whole = field.query(points, "fine")
    assert field.sizes == [3, 6]
    for part, expected in zip(found, whole, strict=True):
        assert torch.equal(part[chosen], expected[chosen])
        # The second has as many points as the first, whichever they are.
        assert not part[0][~chosen[0]].any()
    assert int((found.density[1] > 0).sum()) == 3


def test_an_image_loses_no_more_light_than_allowed_for_far_fewer_points() -> None:
    exact, plain = rendered()
    for skipped in (0.001, 0.02):
        image, field = rendered(skipped_light=skipped)
        # (Of a range from −1 to 1, with the light that comes through instead.)
        assert (image - exact).abs().max() <= 2 * skipped
        assert sum(field.sizes) < 0.65 * sum(plain.sizes)
    assert sum(plain.sizes) == 81 * (32 + 56)


def test_nothing_is_left_out_by_default_or_in_training() -> None:
    camera = cameras_at([[0, 0, 0]], 3)
    for settings, training in (({}, False), ({"skipped_light": 0.5}, True)):
        field = KnownField(ball, position_colour)
        VolumeRendering(NEAR, FAR, 8, 8, **settings).train(training)(field, camera)
        assert sum(field.sizes) == 9 * (8 + 16)
