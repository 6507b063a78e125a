"""The grid encoding against its definition, the released kernel and finite differences; the field on top of it."""

import math
from typing import Any

import pytest
import torch
from sparsefusion_reference import PRECISIONS, by_recipe, check, reference
from torch import Tensor

from dfm_lightning.networks.grid_encoding import GridEncoding, GridKind
from dfm_lightning.networks.grid_field import GridField

KINDS: dict[str, GridKind] = {"tiled": "tiled", "hash": "hashed"}
CASES = ("grid_tiled", "grid_hash", "grid_full_size")


def encoding_of(case: dict[str, Any]) -> GridEncoding:
    sizes = (case["levels"], 2, case["base_resolution"], case["desired_resolution"], case["log2_table"])
    encoding = GridEncoding(*sizes, kind=KINDS[case["kind"]])
    if "embeddings" in case:
        encoding.table.data = case["embeddings"]
    elif "embeddings_shape" in case:
        encoding.table.data = by_recipe("embeddings", case["embeddings_shape"], case["recipe_seed"])
    return encoding


@pytest.mark.parametrize("name", CASES)
def test_encoding_is_the_released_one(name: str) -> None:
    case = reference()[name]
    encoding = encoding_of(case)
    assert encoding.offsets.tolist() == case["offsets"].tolist()
    check(encoding(case["x"]), case["kernel_float32"], 1e-6)
    if name == "grid_full_size":
        # Their definition rounds the resolutions of some levels otherwise than their kernel does: 4e-4 apart.
        for level, up in {1: True, 2: False, 4: True, 6: True, 9: True, 11: True}.items():
            scale, end = (torch.tensor(value) for value in (encoding.scales[level], math.inf if up else 0.0))
            encoding.scales[level] = scale.nextafter(end).item()
    check(encoding.double()(case["x"].double()), case["brute_force_float64"], 1e-9)


@pytest.mark.parametrize("name", CASES[:2])
def test_gradient_of_the_table_is_the_released_one(name: str) -> None:
    case = reference()[name]
    encoding = encoding_of(case)
    (encoding(case["x"]) * case["output_gradient"]).sum().backward()
    assert encoding.table.grad is not None
    check(encoding.table.grad, case["embedding_gradient"], 1e-4)


def brute_force(encoding: GridEncoding, point: Tensor) -> list[float]:
    """The definition, point by point and vertex by vertex, in whole numbers."""
    unit = [(float(x) + encoding.extent) / (2 * encoding.extent) for x in point]
    if any(x < 0 or x > 1 for x in unit):
        return [0.0] * encoding.width
    result = []
    for level, (scale, size) in enumerate(zip(encoding.scales, encoding.sizes, strict=True)):
        place = [x * scale + 0.5 for x in unit]
        total = torch.zeros(encoding.features, dtype=torch.float64)
        for corner in range(8):
            bits = [corner >> axis & 1 for axis in range(3)]
            vertex = [math.floor(p) + bit for p, bit in zip(place, bits, strict=True)]
            parts = [
                p - math.floor(p) if bit else 1 - (p - math.floor(p)) for p, bit in zip(place, bits, strict=True)
            ]
            side, index, stride = math.ceil(scale) + 2, 0, 1
            for coordinate in vertex:
                if stride <= size:
                    index += coordinate * stride
                    stride *= side
            if encoding.kind == "hashed" and stride > size:
                first, second, third = (
                    v * p % 2**32 for v, p in zip(vertex, (1, 2654435761, 805459861), strict=True)
                )
                index = first ^ second ^ third
            total += math.prod(parts) * encoding.table[int(encoding.offsets[level]) + index % size].detach()
        result += total.tolist()
    return result


@pytest.mark.parametrize("kind", ["tiled", "hashed"])
@pytest.mark.parametrize("sizes", [(1, 1, 3, 3, 6), (4, 3, 2, 37, 7), (3, 2, 5, 64, 5)])
def test_encoding_is_its_definition(kind: GridKind, sizes: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(sum(sizes))
    encoding = GridEncoding(*sizes, kind=kind, extent=1.5).double()
    encoding.table.data = torch.randn(encoding.table.shape, generator=generator, dtype=torch.float64)
    points = (torch.rand(30, 3, generator=generator, dtype=torch.float64) - 0.5) * 3.3
    points[0], points[1] = -1.5, 1.5
    expected = torch.tensor([brute_force(encoding, point) for point in points], dtype=torch.float64)
    assert (expected == 0).all(dim=1).any()
    check(encoding(points), expected, 1e-12)


@pytest.mark.parametrize("kind", ["tiled", "hashed"])
def test_gradients_are_those_of_finite_differences(kind: GridKind) -> None:
    torch.manual_seed(0)
    encoding = GridEncoding(3, 2, 2, 9, 5, kind, 1.0).double()
    encoding.table.data.normal_()
    points = (torch.rand(6, 3, dtype=torch.float64) * 1.8 - 0.9).requires_grad_()
    assert torch.autograd.gradcheck(encoding, (points,))

    def of_table(table: Tensor) -> Tensor:
        return torch.func.functional_call(encoding, {"table": table}, (points.detach(),))

    assert torch.autograd.gradcheck(of_table, (encoding.table.detach().clone().requires_grad_(),))


# --- the field ---------------------------------------------------------------------------------------------------


def released_field(dtype: torch.dtype = torch.float32) -> GridField:
    case = reference()["field"]
    state, field = case["state_dict"], GridField(encoding_of(case["grid"]))
    field.grid.table.data = state["encoder.embeddings"]
    for number, layer in enumerate(field.layers):
        layer.load_state_dict({name: state[f"sigma_net.net.{number}.{name}"] for name in ("weight", "bias")})
    return field.to(dtype)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_field_is_the_released_one(precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    case = reference()["field"]
    colour, density = released_field(dtype).in_grid(case["points"].to(dtype))
    check(colour, case[precision]["albedo"], tolerance)
    check(density, case[precision]["density"], tolerance)


def test_nothing_is_outside_the_cube_and_units_are_those_of_the_scene() -> None:
    field = released_field(torch.float64)
    points = torch.tensor([[[0.1, 0.2, -0.3], [4.1, 0.0, 0.0]]], dtype=torch.float64)
    plain = field.query(points, "fine")
    assert plain.density[0, 0] > 0
    assert plain.density[0, 1] == 0
    # A scene twice as large, turned and moved: half as dense, the same colours.
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    field.to_grid[:3, :3], field.to_grid[:3, 3] = turn / 2, torch.tensor([0.5, 0.0, 1.0])
    moved = (points - field.to_grid[:3, 3]) @ turn * 2
    other = field.query(moved, "fine")
    check(other.colour, plain.colour, 1e-9)
    check(other.density, plain.density / 2, 1e-9)


def test_density_that_would_overflow_has_a_finite_gradient() -> None:
    field = released_field()
    with torch.no_grad():
        field.layers[-1].bias[0] = 60.0
    _, density = field.in_grid(torch.zeros(1, 3))
    density.log().sum().backward()
    gradient = field.layers[-1].bias.grad
    assert gradient is not None
    assert gradient.isfinite().all()
