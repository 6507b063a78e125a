"""Baked scenes: what is read from the grid is what the field computes, and looks the same."""

from pathlib import Path

import known_scene
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dfm_lightning.baking import BakedField, bake, load_scene, render_scene, save_scene
from dfm_lightning.baking.baked_field import BRICK, EMPTY, HIDDEN, brick_corners, corner_points
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.scene_grids import CubeFrame


def psnr(images: Tensor, others: Tensor) -> float:
    return float(-10 * ((images - others) / 2).square().mean().log10())


def test_a_baked_scene_looks_as_it_did() -> None:
    cameras = known_scene.ring()
    direct = known_scene.renderer()(known_scene.field(), cameras)[0]
    coarse, fine = (psnr(render_scene(known_scene.baked(n), cameras), direct) for n in (64, 128))
    assert fine > 35
    # The error of interpolation falls with the square of the cells' size where the field is smooth; it has edges.
    assert fine > coarse + 4


def test_both_stages_are_stored_where_there_are_two() -> None:
    cameras = known_scene.ring(6)
    scene = known_scene.baked(96, fine_samples=64, cameras=cameras)
    assert scene.field.values.shape[2] == 5
    direct = scene.renderer(known_scene.field(), cameras)[0]
    assert psnr(render_scene(scene, cameras), direct) > 33


def test_what_no_view_shows_is_left_out_as_hidden() -> None:
    field = known_scene.baked(128).field
    kinds = field.bricks.unique().tolist()
    assert EMPTY in kinds
    assert HIDDEN in kinds
    middle = field.frame.places(torch.tensor([[known_scene.CENTRE]]))[0, 0] * len(field.bricks)
    x, y, z = middle.long()
    assert field.bricks[z, y, x] == HIDDEN
    assert field.query(torch.tensor([[known_scene.CENTRE]]), "coarse").density == 0


def linear_field(resolution: int) -> BakedField:
    """A grid of which all is stored, whose values are linear in the place on the grid."""
    side = resolution // BRICK
    steps = torch.arange(side)
    z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
    places = brick_corners(torch.stack([x, y, z], dim=-1).view(-1, 3)) / resolution
    values = torch.cat([places, places.sum(dim=-1, keepdim=True)], dim=-1)
    bricks = torch.arange(side**3).view(side, side, side)
    return BakedField(CubeFrame(torch.eye(4)[None] / 2, 0.8), bricks, values)


def test_interpolation_is_exact_for_what_is_linear_on_the_grid() -> None:
    field = linear_field(24)
    points = torch.randn(1, 500, 3, generator=torch.Generator().manual_seed(0)) * 3
    places = field.frame.places(points)
    values = field.query(points, "fine")
    torch.testing.assert_close(values.colour, places, atol=1e-5, rtol=0)
    torch.testing.assert_close(values.density, places.sum(dim=-1), atol=1e-5, rtol=0)


def test_corners_lie_where_the_frame_puts_their_places() -> None:
    frame = CubeFrame(torch.eye(4)[None] / 2, 0.8)
    corners = torch.tensor([[1, 2, 3], [12, 12, 12], [23, 5, 20]])
    points = corner_points(frame, corners, 24)
    torch.testing.assert_close(frame.places(points[None])[0] * 24, corners.float(), atol=1e-4, rtol=0)


def test_scenes_survive_files(tmp_path: Path) -> None:
    scene = known_scene.baked(64)
    save_scene(scene, tmp_path / "scene.safetensors")
    again = load_scene(tmp_path / "scene.safetensors")
    assert torch.equal(again.field.bricks, scene.field.bricks)
    torch.testing.assert_close(again.field.values, scene.field.values, atol=1e-6, rtol=1e-3)
    cameras = known_scene.ring(3)
    assert psnr(render_scene(again, cameras), render_scene(scene, cameras)) > 60


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"no scene")
    with pytest.raises(UserError, match=r"other\.safetensors"):
        load_scene(path)
    save_file({"bricks": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"other\.safetensors"):
        load_scene(path)


def test_an_empty_scene_is_refused() -> None:
    nothing = known_scene.KnownField(lambda p: torch.zeros(p.shape[:-1]), lambda p: p.sigmoid())
    cameras = known_scene.ring(3)
    with pytest.raises(UserError, match="empty"):
        bake(nothing, known_scene.renderer(), cameras, torch.rand(9, 3), 32)
