"""A picture of exports beside the frames that the model renders: do they look like the video?

    python benchmarks/exported_pictures.py co3d_demo docs/images/exports_co3d_demo.png --root demo/objects

The first test scene. Rows: frames of a circle, the mesh, the points, both as trimesh reads them from their files
and drawn as dots (the mesh at random points of its triangles), the nearest of each pixel; black where none is.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import torch
import trimesh
from baking import circles

from dfm_lightning.exports import export_scene
from dfm_lightning.types import Cameras

# Dots of the mesh for each pixel that a triangle would cover if it faced the camera.
DENSITY = 12


def projected(points: np.ndarray, camera: Cameras, view: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel coordinates [n 2] and depth [n] of points in a file's axes (y up, z backward)."""
    pose = np.linalg.inv(camera.camera_to_world[0, view].double().numpy())
    local = (points * [1, -1, -1]) @ pose[:3, :3].T + pose[:3, 3]
    image = local @ camera.intrinsics[0, view].double().numpy().T
    return image[:, :2] / np.maximum(image[:, 2:], 1e-6) * size, local[:, 2]


def dots(points: np.ndarray, colours: np.ndarray, camera: Cameras, view: int, size: int) -> np.ndarray:
    """Draw the nearest dot of each pixel [size size 3]."""
    pixels, depth = projected(points, camera, view, size)
    cell = np.floor(pixels).astype(int)
    inside = (depth > 0.05) & (cell >= 0).all(axis=1) & (cell < size).all(axis=1)
    cell, depth, colours = cell[inside], depth[inside], colours[inside]
    far_first = np.argsort(-depth, kind="stable")
    image = np.zeros((size, size, 3), dtype=np.uint8)
    image[cell[far_first, 1], cell[far_first, 0]] = colours[far_first]
    return image


def points_of_triangles(
    mesh: Any, camera: Cameras, view: int, size: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return random points on the triangles that face a camera, as many as they need there, and their colours."""
    place = camera.camera_to_world[0, view, :3, 3].double().numpy() * [1, -1, -1]
    corners = mesh.triangles
    facing = (
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) * (place - corners[:, 0])
    ).sum(1)
    distance = np.linalg.norm(corners.mean(axis=1) - place, axis=1)
    covered = mesh.area_faces * (size * 1.2 / np.maximum(distance, 0.1)) ** 2
    counts = np.where(facing > 0, np.minimum(np.ceil(covered * DENSITY), 20000), 0).astype(int)
    faces = np.repeat(np.arange(len(counts)), counts)
    weights = random.dirichlet([1, 1, 1], len(faces))
    stored = mesh.visual.vertex_attributes["color"]
    linear = stored[:, :3].astype(float) / np.iinfo(stored.dtype).max
    colours = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours = colours[mesh.faces[faces]]
    # (glTF's colours are linear in light.)
    return (
        np.einsum("nk,nkc->nc", weights, corners[faces]),
        np.einsum("nk,nkc->nc", weights, colours).round().astype(np.uint8),
    )


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a shipped model or a checkpoint, of posed images")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--root", help="where its data set lies; as its config says if not given")
    parser.add_argument("--size", type=int, default=128, help="pixels along a side of a frame")
    parser.add_argument("--cells", type=int, default=192, help="along a side of the grid")
    parser.add_argument("--shown", type=int, default=4, help="of 12 frames")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random, size = np.random.default_rng(0), arguments.size
    (sampled,) = circles(arguments.model, arguments.root, 1, 12, size)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        export_scene(sampled.bake(arguments.cells), sampled.cameras, ["mesh", "pointcloud"], Path(folder))
        mesh: Any
        (mesh,) = trimesh.load_scene(f"{folder}/mesh.glb").geometry.values()
        cloud: Any = trimesh.load(f"{folder}/points.ply")
    print(f"mesh: {len(mesh.faces)} triangles; points: {len(cloud.vertices)}")
    columns = []
    for view in range(0, 12, 12 // arguments.shown):
        frame = ((sampled.shown.observation[0, view].movedim(0, -1) + 1) * 127.5).round().byte().numpy()
        surface = dots(
            *points_of_triangles(mesh, sampled.cameras, view, size, random), sampled.cameras, view, size
        )
        points = dots(np.asarray(cloud.vertices), cloud.colors[:, :3], sampled.cameras, view, size)
        drawn = surface.any(axis=-1)
        error = np.square((surface[drawn].astype(float) - frame[drawn]) / 255).mean()
        print(f"frame {view}: mesh covers {drawn.mean():.0%}, PSNR there {-10 * np.log10(error):.1f} dB")
        columns.append(np.concatenate([frame, surface, points]))
    picture = np.concatenate(columns, axis=1).repeat(2, axis=0).repeat(2, axis=1)
    imageio.imwrite(arguments.picture, picture)


if __name__ == "__main__":
    main()
