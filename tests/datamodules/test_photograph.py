"""A photograph of one's own: its lens, its orientation, and cameras that move away from it."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from datamodules.co3d import Co3DDataModule
from datamodules.posed.camera_moves import CameraMove, MoveKind
from datamodules.posed.photograph import Photograph, photograph_camera
from datamodules.posed.settings import PredictedViews
from datamodules.realestate10k import RealEstate10kDataModule
from dfm_lightning.errors import UserError
from dfm_lightning.types import Request


def picture(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downward."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, x * 0], axis=-1).astype(np.uint8))


def save(path: Path, image: Image.Image, orientation: int | None = None, **details: object) -> Path:
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base[name].value: value for name, value in details.items()})
    image.save(path, exif=exif, quality=95)
    return path


def request_of(
    path: Path,
    move: CameraMove,
    image_size: int,
    output_size: int,
    distance: float,
    field_of_view: float | None = None,
) -> Request:
    """What a data module asks of a photograph."""
    data = RealEstate10kDataModule(
        image=str(path),
        image_size=image_size,
        prediction=PredictedViews(size=output_size, move=move),
        scene_depth=distance,
        field_of_view=field_of_view,
    )
    return data.predict_dataloader().dataset[0]


def camera(path: Path, field_of_view: float | None = None) -> tuple[torch.Tensor, str]:
    with Image.open(path) as image:
        return photograph_camera(image, field_of_view)


def test_focal_length_in_35_mm_film(tmp_path: Path) -> None:
    # On film of 36 × 24 mm, whose shape this picture has, 36 mm are one width.
    path = save(tmp_path / "a.jpg", picture(300, 200), FocalLengthIn35mmFilm=36)
    intrinsics, source = camera(path)
    expected = torch.tensor([[1.0, 0, 0.5], [0, 1.5, 0.5], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(intrinsics, expected, atol=1e-12, rtol=0)
    assert "36 mm equivalent" in source


def test_focal_length_on_its_sensor(tmp_path: Path) -> None:
    # 400 pixels a centimetre: 1200 pixels are 30 mm; a lens of 45 mm has 1.5 widths, whatever the file's size.
    details = {
        "FocalLength": 45.0,
        "FocalPlaneXResolution": 400.0,
        "FocalPlaneResolutionUnit": 3,
        "ExifImageWidth": 1200,
    }
    intrinsics, _ = camera(save(tmp_path / "a.jpg", picture(300, 200), **details))
    assert intrinsics[0, 0].item() == pytest.approx(1.5)


@pytest.mark.parametrize("details", [{}, {"FocalLengthIn35mmFilm": 0}, {"FocalLength": 4.2}])
def test_a_field_of_view_where_there_is_no_focal_length(tmp_path: Path, details: dict) -> None:
    path = save(tmp_path / "a.jpg", picture(200, 100), **details)
    intrinsics, source = camera(path)
    assert intrinsics[0, 0].item() == pytest.approx(0.5 / math.tan(math.radians(30)))
    assert "assumed" in source
    wide, source = camera(path, 90.0)
    assert wide[0, 0].item() == pytest.approx(0.5)
    assert wide[1, 1].item() == pytest.approx(1.0)
    assert "assumed" not in source
    with pytest.raises(UserError, match=r"\b180\b"):
        camera(path, 180.0)


def test_the_option_wins_over_exif(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", picture(200, 100), FocalLengthIn35mmFilm=80)
    assert camera(path, 90.0)[0][0, 0].item() == pytest.approx(0.5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honoured(tmp_path: Path, orientation: int) -> None:
    """The same upright picture, stored in each of EXIF's eight ways, gives the same request."""
    upright = picture(90, 60)
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(inverse[orientation]) if orientation > 1 else upright
    path = save(tmp_path / "a.png", stored, orientation, FocalLengthIn35mmFilm=28)
    request = request_of(path, CameraMove(), 30, 30, 3.0)
    other = save(tmp_path / "b.png", upright, 1, FocalLengthIn35mmFilm=28)
    plain = request_of(other, CameraMove(), 30, 30, 3.0)
    assert torch.equal(request.context.observation, plain.context.observation)
    assert torch.equal(request.params.intrinsics, plain.params.intrinsics)
    image = request.context.observation[0]
    assert image[0, 15, 25] > image[0, 15, 5] + 0.5
    assert image[1, 25, 15] > image[1, 5, 15] + 0.5


@pytest.mark.parametrize(("width", "height"), [(90, 60), (60, 90), (64, 64), (200, 40)])
def test_any_shape_is_cut_to_its_middle_square(tmp_path: Path, width: int, height: int) -> None:
    path = save(tmp_path / "a.png", picture(width, height))
    request = request_of(path, CameraMove(frames=3), 20, 24, 3.0, field_of_view=70.0)
    assert request.context.observation.shape == (1, 3, 20, 20)
    assert request.params.pixels.shape == (3, 24, 24, 2)
    side, longer = min(width, height), max(width, height)
    focal = longer / 2 / math.tan(math.radians(35)) / side
    expected = torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
    torch.testing.assert_close(request.context.params.intrinsics[0], expected)
    torch.testing.assert_close(request.params.intrinsics[2], expected)


MOVES: list[MoveKind] = ["forward", "orbit", "sway", "spiral"]


@pytest.mark.parametrize("kind", MOVES)
def test_moves_begin_at_the_photograph_and_are_rigid(kind: MoveKind) -> None:
    poses = CameraMove(kind, 0.4, 21).poses(3.0)
    torch.testing.assert_close(poses[0], torch.eye(4, dtype=torch.float64), atol=1e-12, rtol=0)
    rotation = poses[:, :3, :3]
    identity = torch.eye(3, dtype=torch.float64).expand(21, 3, 3)
    torch.testing.assert_close(rotation @ rotation.mT, identity, atol=1e-12, rtol=0)
    # Held level throughout.
    assert rotation[:, 1, 0].abs().max() < 1e-12
    if kind != "forward":
        middle = torch.tensor([0.0, 0.0, 3.0]).double()
        towards = torch.nn.functional.normalize(middle - poses[:, :3, 3], dim=1)
        torch.testing.assert_close(poses[:, :3, 2], towards, atol=1e-12, rtol=0)


def test_sizes_of_moves_are_in_units_of_the_distance() -> None:
    position = {kind: CameraMove(kind, 0.5, 41).poses(4.0)[:, :3, 3] for kind in MOVES}
    assert position["forward"][-1].tolist() == pytest.approx([0, 0, 2])
    arc = position["orbit"]
    assert (arc - torch.tensor([0.0, 0.0, 4.0]).double()).norm(dim=1).tolist() == pytest.approx([4.0] * 41)
    assert arc.diff(dim=0).norm(dim=1).sum().item() == pytest.approx(2.0, rel=1e-3)
    assert arc[-1, 0] > 0
    assert position["sway"][20].tolist() == pytest.approx([2, 0, 0], abs=1e-9)
    assert position["sway"][-1].tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    across = position["spiral"][:, :2]
    assert (across - torch.tensor([0.0, -1.0]).double()).norm(dim=1).tolist() == pytest.approx([1.0] * 41)
    assert CameraMove("sway", -0.5, 41).poses(4.0)[20, 0, 3] == pytest.approx(-2)


def test_a_whole_orbit_comes_back() -> None:
    poses = CameraMove("orbit", 2 * math.pi, 9).poses(2.0)
    torch.testing.assert_close(poses[-1], poses[0], atol=1e-9, rtol=0)
    torch.testing.assert_close(poses[4, :3, 3], torch.tensor([0.0, 0.0, 4.0]).double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("elevation", [0.0, 25.0, -40.0])
def test_an_elevated_orbit_stays_at_its_height_and_upright_in_the_world(elevation: float) -> None:
    """In the world of a Co3D photograph, whose y axis points up."""
    move = CameraMove("orbit", 3.0, 13, elevation)
    data = Co3DDataModule("nowhere", "hydrant", target_scale=4.0, prediction=PredictedViews(move=move))
    world = data.photograph_pose() @ move.poses(4.0)
    height = 4.0 * math.sin(math.radians(elevation))
    assert world[:, 1, 3].tolist() == pytest.approx([height] * 13)
    radius = world[:, [0, 2], 3].norm(dim=1)
    assert radius.tolist() == pytest.approx([4.0 * math.cos(math.radians(elevation))] * 13)
    assert world[:, 1, 0].abs().max() < 1e-12, "the image's horizontal is level"
    assert (world[:, :3, 3] + 4.0 * world[:, :3, 2]).abs().max() < 1e-9, "all look at the origin"
    # By the angle that is asked for, to the right.
    first, last = world[0, [0, 2], 3], world[-1, [0, 2], 3]
    assert (first @ last / radius[0] / radius[-1]).item() == pytest.approx(math.cos(3.0))
    assert (world[0, :3, 0] @ (world[1, :3, 3] - world[0, :3, 3])).item() > 0


def test_senseless_moves_are_refused() -> None:
    for kind, elevation in (("sway", 10.0), ("orbit", 90.0), ("orbit", math.nan)):
        with pytest.raises(UserError, match="elevation"):
            CameraMove(kind, elevation=elevation)
    with pytest.raises(UserError, match="size"):
        CameraMove("orbit", math.inf)
    with pytest.raises(UserError, match="frames"):
        CameraMove(frames=1)


def test_the_datamodule_predicts_from_a_photograph_without_a_root(tmp_path: Path) -> None:
    path = save(tmp_path / "my kitchen.jpg", picture(90, 60), 6)
    prediction = PredictedViews(size=32, move=CameraMove("sway", 0.2, 7))
    data = RealEstate10kDataModule(image=str(path), image_size=16, prediction=prediction, scene_depth=2.0)
    (request,) = data.predict_dataloader()
    assert list(request.key) == ["my kitchen"]
    assert request.params.pixels.shape == (1, 7, 32, 32, 2)
    assert request.params.camera_to_world[0, 3, 0, 3] == pytest.approx(0.4)
    torch.testing.assert_close(request.context.params.absolute_pose[0, 0], torch.eye(4))


def test_a_model_of_co3d_predicts_from_a_photograph_without_a_root(tmp_path: Path) -> None:
    path = save(tmp_path / "hydrant.jpg", picture(90, 60))
    data = Co3DDataModule(str(tmp_path / "nowhere"), "hydrant", image_size=16, target_scale=8.0, image=str(path))
    data.trainer = SimpleNamespace(state=SimpleNamespace(fn="predict"))
    data.prepare_data()
    (request,) = data.predict_dataloader()
    assert list(request.key) == ["hydrant"]
    absolute = request.context.params.absolute_pose[0, 0]
    # It looks at the origin from 8 units away, upright: the image's y axis points down in the world.
    assert absolute[:3, 3].tolist() == pytest.approx([0, 0, -8])
    assert (absolute @ torch.tensor([0.0, 0.0, 8.0, 1.0]))[:3].tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert absolute[:3, 1].tolist() == pytest.approx([0, -1, 0], abs=1e-6)
    # Once around it.
    torch.testing.assert_close(request.params.camera_to_world[0, -1], torch.eye(4), atol=1e-5, rtol=0)
    distance = request.params.absolute_pose[0, :, :3, 3].norm(dim=1)
    torch.testing.assert_close(distance, torch.full_like(distance, 8.0))


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.jpg"):
        Photograph(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_text("not a picture")
    with pytest.raises(UserError, match=r"a\.jpg"):
        Photograph(tmp_path / "a.jpg")
    whole = save(tmp_path / "b.jpg", picture(90, 60)).read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"b\.jpg"):
        Photograph(tmp_path / "b.jpg")
