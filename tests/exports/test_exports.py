"""Meshes, points and Gaussians of a scene known in closed form, read back by other libraries."""

import math
from pathlib import Path
from typing import Any

import known_scene
import numpy as np
import plyfile
import pytest
import torch
import trimesh
from scipy.ndimage import maximum_filter, minimum_filter

from dfm_lightning.baking import BakedScene, render_scene
from dfm_lightning.errors import UserError
from dfm_lightning.exports import export_scene
from dfm_lightning.exports.glb import write_glb
from dfm_lightning.exports.mesh import surface, surface_density
from dfm_lightning.exports.splats import splats


@pytest.fixture(scope="module")
def scene() -> BakedScene:
    return known_scene.baked(128)


@pytest.fixture(scope="module")
def folder(scene: BakedScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    export_scene(scene, known_scene.ring(), ["mesh", "pointcloud", "splats"], folder)
    return folder


def radius_at(density: float) -> float:
    """Where the large ball has a density, in closed form."""
    return known_scene.RADIUS - 0.1 * (density / 40 - 0.5)


def test_the_mesh_is_the_closed_surface_of_the_largest_part(scene: BakedScene, folder: Path) -> None:
    mesh: Any = trimesh.load(folder / "mesh.glb", force="mesh")
    assert mesh.is_watertight
    assert mesh.body_count == 1
    radius = radius_at(surface_density(scene))
    # y up, z backward.
    distances = np.linalg.norm(mesh.vertices - [0, 0, -4], axis=1)
    np.testing.assert_allclose(distances, radius, atol=0.02)
    # Positive: triangles face outward.
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * radius**3, rel=0.02)


def test_vertices_have_the_scenes_colours_in_linear_light(folder: Path) -> None:
    mesh: Any
    (mesh,) = trimesh.load_scene(folder / "mesh.glb").geometry.values()
    stored = np.asarray(mesh.visual.vertex_attributes["color"], dtype=np.float64)[:, :3]
    stored = stored / np.iinfo(mesh.visual.vertex_attributes["color"].dtype).max
    points = torch.from_numpy(mesh.vertices * [1, -1, -1]).float()
    true = known_scene.colour(points[None])[0].numpy()
    np.testing.assert_allclose(
        stored, ((true + 0.055) / 1.055) ** 2.4 * (true > 0.04) + true / 12.92 * (true <= 0.04), atol=0.02
    )


def test_points_lie_on_what_is_seen(folder: Path) -> None:
    cloud: Any = trimesh.load(folder / "points.ply")
    points = np.asarray(cloud.vertices) * [1, -1, -1]
    outside = [
        np.abs(np.linalg.norm(points - centre, axis=1) - radius)
        for centre, radius in (
            (known_scene.CENTRE, known_scene.RADIUS),
            (known_scene.SMALL_CENTRE, known_scene.SMALL),
        )
    ]
    # Points along rays are 0.06 apart.
    assert np.quantile(np.minimum(*outside), 0.99) < 0.12
    true = known_scene.colour(torch.from_numpy(points).float()[None])[0].numpy()
    assert np.abs(np.asarray(cloud.colors)[:, :3] / 255 - true).mean() < 0.05


def splatted(ply: plyfile.PlyData, size: int) -> np.ndarray:
    """What a camera at the origin sees of a file of Gaussians, by the formulas of Kerbl et al., one by one."""
    vertices = ply["vertex"]
    centres = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float64)
    scales = np.exp(np.stack([vertices[f"scale_{i}"] for i in range(3)], axis=1).astype(np.float64))
    opacity = 1 / (1 + np.exp(-vertices["opacity"].astype(np.float64)))
    colour = 0.5 + 0.28209479177387814 * np.stack([vertices[f"f_dc_{i}"] for i in range(3)], axis=1)
    image, light = np.zeros((size, size, 3)), np.ones((size, size))
    for index in np.argsort(centres[:, 2]):
        x, y, z = centres[index]
        jacobian = np.array([[1 / z, 0, -x / z**2], [0, 1 / z, -y / z**2]]) * size
        covariance = jacobian @ np.diag(scales[index] ** 2) @ jacobian.T + 0.3 * np.eye(2)
        middle = np.array([x / z + 0.5, y / z + 0.5]) * size - 0.5
        low = np.maximum(np.floor(middle - 4), 0).astype(int)
        high = np.minimum(np.ceil(middle + 5), size).astype(int)
        if (low >= high).any():
            continue
        rows, columns = np.mgrid[low[1] : high[1], low[0] : high[0]]
        offset = np.stack([columns, rows], axis=-1) - middle
        exponent = np.einsum("...i,ij,...j", offset, np.linalg.inv(covariance), offset)
        alpha = np.minimum(opacity[index] * np.exp(-exponent / 2), 0.99)
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        image[window] += (light[window] * alpha)[..., None] * colour[index]
        light[window] *= 1 - alpha
    return image


def test_gaussians_look_like_the_scene(tmp_path: Path) -> None:
    scene = known_scene.baked(64)
    export_scene(scene, known_scene.ring(), ["splats"], tmp_path)
    ply = plyfile.PlyData.read(tmp_path / "splats.ply")
    names = [item.name for item in ply["vertex"].properties]
    assert names[:6] == ["x", "y", "z", "nx", "ny", "nz"]
    assert names[-8:] == ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert sum(name.startswith("f_rest_") for name in names) == 45
    seen = render_scene(scene, known_scene.ring(3, size=48))[0].movedim(0, -1).numpy() * 0.5 + 0.5
    error = np.square(splatted(ply, 48) - seen).mean(axis=2)
    # Edges are wider by a cell and by half a pixel, which is the least width that viewers give a Gaussian.
    lit = (seen.max(axis=2) > 0.2).astype(float)
    inside, outside = minimum_filter(lit, 5) > 0, maximum_filter(lit, 5) == 0
    assert inside.sum() > 300
    assert -10 * np.log10(error[inside].mean()) > 30
    assert -10 * np.log10(error[outside].mean()) > 30


def test_the_most_important_gaussians_are_kept(scene: BakedScene) -> None:
    with torch.no_grad():
        few = splats(scene, known_scene.ring(3), most=100)
    assert len(few.centres) == 100
    assert float(few.deviations.max()) < 0.1


def test_no_surface_is_an_error_by_name(scene: BakedScene) -> None:
    with pytest.raises(UserError, match="no surface"):
        surface(scene, known_scene.ring(3), density=1e6)


def test_glb_is_read_as_it_was_written(tmp_path: Path) -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=float)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    write_glb(tmp_path / "a.glb", vertices, faces, np.eye(4)[:, :3])
    mesh: Any = trimesh.load(tmp_path / "a.glb", force="mesh", process=False)
    np.testing.assert_allclose(mesh.vertices, vertices)
    np.testing.assert_array_equal(mesh.faces, faces)
    assert mesh.volume == pytest.approx(1 / 6)
