"""Ray intersections against membership of points along the rays, found without any of the formulas."""

from collections.abc import Callable

import numpy as np
import pytest

from datamodules.synthetic.co3d.solids import Box, Cylinder, Solid, Sphere, may_meet

CENTRE = np.array([0.1, 0.4, -0.2], np.float32)
HALF = np.array([0.5, 0.3, 0.7], np.float32)
YAW = 0.6


def inside_box(points: np.ndarray) -> np.ndarray:
    """By the box's corner directions: x' along (cos yaw, 0, -sin yaw), z' along (sin yaw, 0, cos yaw)."""
    offset = points - CENTRE
    across = offset @ np.array([np.cos(YAW), 0, -np.sin(YAW)])
    along = offset @ np.array([np.sin(YAW), 0, np.cos(YAW)])
    return (np.abs(across) < HALF[0]) & (np.abs(offset[..., 1]) < HALF[1]) & (np.abs(along) < HALF[2])


def inside_cylinder(points: np.ndarray) -> np.ndarray:
    offset = points - CENTRE
    return (np.hypot(offset[..., 0], offset[..., 2]) < 0.5) & (np.abs(offset[..., 1]) < 0.4)


def inside_sphere(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - CENTRE, axis=-1) < 0.6


CASES: list[tuple[Solid, Callable[[np.ndarray], np.ndarray]]] = [
    (Sphere(CENTRE, 0.6), inside_sphere),
    (Box(CENTRE, HALF, YAW), inside_box),
    (Cylinder(CENTRE, 0.5, 0.4), inside_cylinder),
]


def rays(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rays from around the solid to places in and near it."""
    random = np.random.default_rng(0)
    origin = random.normal(size=(count, 3))
    origin = CENTRE + 3 * origin / np.linalg.norm(origin, axis=1, keepdims=True)
    target = CENTRE + random.uniform(-0.9, 0.9, size=(count, 3))
    return origin.astype(np.float32), (target - origin).astype(np.float32)


@pytest.mark.parametrize(("solid", "inside"), CASES, ids=["sphere", "box", "cylinder"])
def test_rays_enter_where_points_along_them_do(solid: Solid, inside) -> None:
    origin, direction = rays(400)
    steps = np.linspace(0, 2.5, 2501)
    along = origin[:, None].astype(np.float64) + steps[:, None] * direction[:, None]
    member = inside(along)
    expected = np.where(member.any(axis=1), steps[member.argmax(axis=1)], np.inf)
    met = solid.intersect(origin, direction)
    # Rays that graze the solid between two steps may differ.
    agree = np.isfinite(met.distance) == np.isfinite(expected)
    assert agree.mean() > 0.98
    both = np.isfinite(met.distance) & np.isfinite(expected)
    assert both.sum() > 100
    assert np.abs(met.distance[both] - expected[both]).max() < 2e-3


@pytest.mark.parametrize(("solid", "inside"), CASES, ids=["sphere", "box", "cylinder"])
def test_normals_point_out_and_against_the_ray(solid: Solid, inside) -> None:
    origin, direction = rays(400)
    met = solid.intersect(origin, direction)
    hit = np.isfinite(met.distance)
    normal = met.normal[hit]
    point = origin[hit] + met.distance[hit, None] * direction[hit]
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-3)
    assert (np.einsum("ij,ij->i", normal, direction[hit]) < 1e-3).all()
    assert inside(point - 0.01 * normal).mean() > 0.97
    assert not inside(point + 0.01 * normal).any()


@pytest.mark.parametrize("solid", [case[0] for case in CASES], ids=["sphere", "box", "cylinder"])
def test_no_ray_that_meets_is_ruled_out(solid: Solid) -> None:
    origin, direction = rays(400)
    hits = np.flatnonzero(np.isfinite(solid.intersect(origin, direction).distance))
    assert set(hits) <= set(may_meet(solid, origin, direction))


def test_surfaces_do_not_meet_themselves() -> None:
    """A ray that starts on a surface and leaves it meets nothing: no shadow of a solid on its lit side."""
    for solid, _ in CASES:
        origin, direction = rays(200)
        met = solid.intersect(origin, direction)
        hit = np.isfinite(met.distance)
        point = origin[hit] + met.distance[hit, None] * direction[hit] + np.float32(2e-3) * met.normal[hit]
        assert not np.isfinite(solid.intersect(point, met.normal[hit]).distance).any()
