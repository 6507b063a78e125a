"""Rendering of fields in a cube: SparseFusion's released renderer, and what must hold of any."""

from typing import Any

import pytest
import torch
from known_fields import cameras_at
from sparsefusion_reference import PRECISIONS, check, reference
from torch import Tensor

from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.forward_models.ray_rendering import RayRendering, render_rays
from dfm_lightning.networks.grid_encoding import GridEncoding
from dfm_lightning.networks.grid_field import GridField


def released_field(dtype: torch.dtype) -> GridField:
    case = reference()["field"]
    grid, state = case["grid"], case["state_dict"]
    sizes = (grid["levels"], 2, grid["base_resolution"], grid["desired_resolution"], grid["log2_table"])
    field = GridField(GridEncoding(*sizes))
    field.grid.table.data = state["encoder.embeddings"]
    for number, layer in enumerate(field.layers):
        layer.load_state_dict({name: state[f"sigma_net.net.{number}.{name}"] for name in ("weight", "bias")})
    return field.to(dtype).requires_grad_(False)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rays_see_what_the_released_renderer_sees(precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    expected = reference()["field"][precision]
    field = released_field(dtype)
    origins, directions = expected["origins"], expected["directions"]
    near, far = field.crossing(origins, directions)
    check(near[..., 0], expected["near"], tolerance)
    check(far[..., 0], expected["far"], tolerance)
    settings = RayRendering(0.1, 100.0, 64, 64, "distance", (0.0, 0.0, 0.0), False, False, True)
    seen = render_rays(field, origins, directions, settings)
    check(seen.colour, expected["image"], tolerance)
    check(seen.opacity[..., 0], expected["weights_sum"], tolerance)
    depth = (seen.weights * ((seen.distances - near) / (far - near)).clamp(0, 1)).sum(dim=-1)
    check(depth, expected["depth_normalised"], tolerance)


def small_field(log_density: float) -> GridField:
    torch.manual_seed(0)
    field = GridField(GridEncoding(2, 2, 2, 4, 8, extent=1.0), width=8, blob=0.0)
    torch.nn.init.zeros_(field.layers[-1].weight)
    with torch.no_grad():
        field.layers[-1].bias[0] = log_density
    return field.double().requires_grad_(False)


def rendered(field: GridField, position: list[float], **options: Any) -> tuple[Tensor, Tensor]:
    renderer = VolumeRendering(0.1, 50.0, 64, 0, **options).eval()
    observed = renderer.observe(field, cameras_at([position], 9))
    return observed.auxiliary.opacity[0, 0, 0], observed.auxiliary.depth[0, 0, 0]


@pytest.mark.parametrize("along_axis", [False, True])
def test_a_uniform_cube_has_the_opacity_of_its_length(along_axis: bool) -> None:
    opacity, depth = rendered(small_field(0.0), [0.0, 0.0, -5.0], along_axis=along_axis)
    centre = opacity[4, 4]
    # Through the middle 2 long, and an interval more than between the ends (as in the released code).
    expected = 1 - torch.exp(torch.tensor(-2.0 * (1 + 1 / 64), dtype=torch.float64))
    torch.testing.assert_close(centre, expected, rtol=1e-3, atol=0)
    assert 4 < float(depth[4, 4] / centre) < 6


def test_a_camera_inside_sees_and_one_that_looks_past_sees_nothing() -> None:
    inside, _ = rendered(small_field(3.0), [0.0, 0.0, 0.0])
    assert inside.isfinite().all()
    assert inside.min() > 0.9
    past, depth = rendered(small_field(3.0), [50.0, 0.0, -5.0])
    assert not past.any()
    assert not depth.any()


def test_depth_is_along_the_ray_whatever_points_are_spaced_in() -> None:
    field = small_field(4.0)
    _, plain = rendered(field, [0.0, 0.0, -3.0])
    _, axial = rendered(field, [0.0, 0.0, -3.0], along_axis=True)
    torch.testing.assert_close(axial, plain, rtol=0.02, atol=0.02)
