"""Models of COLMAP with something wrong in them: images left out with the reason, files refused in one line."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation
from small_captures import FRAMES, NAN, poses, refusal, write_pictures

from datamodules.captures import open_capture

CAMERA = "1 PINHOLE 64 48 60 60 32 24"


def image_lines() -> list[str]:
    world_to_camera = np.linalg.inv(poses())
    quaternions = np.roll(Rotation.from_matrix(world_to_camera[:, :3, :3]).as_quat(), 1, axis=1)
    numbers = np.concatenate([quaternions, world_to_camera[:, :3, 3]], axis=1).tolist()
    return [f"{n + 1} {' '.join(map(repr, row))} 1 {n:03d}.png" for n, row in enumerate(numbers)]


def write_text(root: Path, cameras: str = CAMERA, images: str | None = None, points: str = "") -> Path:
    """A model whose images' point lines are empty, unless given otherwise."""
    if not root.joinpath("images").is_dir():
        write_pictures(root)
    folder = root / "sparse" / "0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.txt").write_text(f"# Cameras\n{cameras}\n")
    (folder / "images.txt").write_text("\n\n".join(image_lines()) + "\n\n" if images is None else images)
    (folder / "points3D.txt").write_text(points)
    return root


SEPARATORS = [
    "\n\n", "\n1 2 -1\n", "\n1 2 -1 3 4 7\n", "\n# none\n", "\n \n", "\n\n\n\n", "\n\n# next\n", "\n",
    "\r\n\r\n", "\n\n  ",
]  # fmt: skip


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("end", ["", "\n", "\n\n\n\n", "\n# end\n"])
def test_texts_are_read_as_colmap_reads_them(separator: str, end: str, tmp_path: Path) -> None:
    head = "\ufeff# Images\n\n" if end else ""
    capture = open_capture(write_text(tmp_path, images=head + separator.join(image_lines()) + end), 3.0)
    assert len(capture.frames) == FRAMES
    assert "a depth of 4 there" in capture.description
    np.testing.assert_allclose(capture.camera_to_world[:, :3, :3], poses()[:, :3, :3], atol=1e-9)


@pytest.mark.parametrize(
    ("word", "value", "reason"),
    [(1, "nan", "quaternion"), (2, "inf", "quaternion"), (5, "inf", "translation"), (7, "nan", "translation"),
     (7, "1e30", "impossibly far"), (8, "9", "there is no camera 9"), (9, "999.png", "picture is missing"),
     (9, "._003.png", "macOS")],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*cannot be used")
def test_a_broken_image_is_left_out(word: int, value: str, reason: str, tmp_path: Path) -> None:
    lines = [line.split() for line in image_lines()]
    lines[3][word] = value
    points = "1 0 0 0 9 9 9 0.5 " + " ".join(f"{number} 0" for number in range(1, FRAMES + 1))
    root = write_text(tmp_path, images="\n\n".join(map(" ".join, lines)), points=points)
    capture = open_capture(root, 3.0)
    assert len(capture.frames) == FRAMES - 1
    assert "a depth of 4 there" in capture.description
    assert reason in capture.description
    assert "image 4" in capture.description


def test_a_quaternion_of_zeros_and_points_that_are_not_finite(tmp_path: Path) -> None:
    lines = image_lines()
    lines[3] = "4 0 0 0 0 0 0 4 1 003.png"
    points = "1 0 0 0 9 9 9 0.5 1 0 2 0 77 0\n2 nan 0 0 9 9 9 0.5 1 0\n3 0 0 inf 9 9 9 0.5 1 0\n4 1 1 1 9 9 9 1"
    with pytest.warns(UserWarning, match=r"image 4 \(003.png\)"):
        capture = open_capture(write_text(tmp_path, images="\n\n".join(lines), points=points), 3.0)
    assert "the quaternion is impossible" in capture.description
    assert "a depth of 4 there" in capture.description


@pytest.mark.parametrize(
    ("camera", "reason"),
    [
        ("1 PINHOLE 0 48 60 60 32 24", "size of the image"),
        ("1 PINHOLE 64 -48 60 60 32 24", "size of the image"),
        ("1 PINHOLE 64 48 nan 60 32 24", "camera 1: the focal length"),
        ("1 PINHOLE 64 48 60 0 32 24", "focal length"),
        ("1 PINHOLE 64 48 60 60 inf 24", "principal point"),
        ("1 OPENCV 64 48 60 60 32 24 nan 0 0 0", "distortion is not finite"),
        ("1 SIMPLE_RADIAL 64 48 60 32 24 -9", "cannot be undone"),
        (
            "1 PINHOLE 64 48 60 60 32",
            "cameras.txt, line 2: a camera of the model PINHOLE has 4",
        ),
        ("1 PINHOLE 64 48 60 60 32 24 0", "has 4 parameters (fx, fy, cx, cy), got 5"),
        ("1 PINHOLE", "line 2"),
        ("1 PINHOLE 64 48 60 x 32 24", "line 2: expected a number, got 'x'"),
        ("one PINHOLE 64 48 60 60 32 24", "line 2: expected a whole number, got 'one'"),
        (
            "1 EQUIRECTANGULAR 64 32 64 32",
            "line 2: the camera model EQUIRECTANGULAR is not known, expected",
        ),
        ("1 WEIRD 64 32 64 32", "line 2: the camera model WEIRD is not known"),
        (f"{CAMERA}\n{CAMERA}", "line 3: there is a camera 1 already"),
        ("# none", "there is no camera 1"),
    ],
)
def test_broken_cameras_are_refused(camera: str, reason: str, tmp_path: Path) -> None:
    assert reason in refusal(write_text(tmp_path, cameras=camera))


@pytest.mark.parametrize(
    ("images", "points", "reason"),
    [
        ("1 1 0 0 0 0 0 4 1\n", "", "images.txt, line 1: expected an image's 10 words"),
        ("1 1 0 0 0 0 0 4 1 000.png\n1 2\n", "", "images.txt, line 2"),
        ("1 a 0 0 0 0 0 4 1 000.png\n", "", "images.txt, line 1: expected a number, got 'a'"),
        ("1.5 1 0 0 0 0 0 4 1 000.png\n", "", "line 1: expected a whole number, got '1.5'"),
        ("1 1 0 0 0 0 0 4 1 000.png\n\n1 1 0 0 0 0 0 4 1 001.png\n", "", "line 3: there is an image 1 already"),
        ("# none\n", "", "lists no frames"),
        ("", "", "lists no frames"),
        (None, "1 0 0 5", "points3D.txt, line 1: expected the 8 words of a point"),
        (None, "1 0 0 5 9 9 9 0.5 1", "points3D.txt, line 1"),
        (None, "1 0 z 5 9 9 9 0.5 1 0", "points3D.txt, line 1: expected a number, got 'z'"),
        (None, f"1 0 0 5 9 9 9 0.5 {2**70} 0", "line 1: expected a whole number"),
    ],
)
def test_broken_texts_are_refused_with_their_line(
    images: str | None, points: str, reason: str, tmp_path: Path
) -> None:
    assert reason in refusal(write_text(tmp_path, images=images, points=points))


def test_names_may_have_spaces(tmp_path: Path) -> None:
    names = [f"my picture {number}.png" for number in range(FRAMES)]
    write_pictures(tmp_path, names)
    lines = [f"{line.rsplit(' ', 1)[0]} {name}" for line, name in zip(image_lines(), names, strict=True)]
    capture = open_capture(write_text(tmp_path, images="\n\n".join(lines)), 3.0)
    assert [frame.path.name for frame in capture.frames] == names


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """A capture whose model pycolmap has written, from text, as binary files."""
    lines = "\n32 24 1\n".join(image_lines()) + "\n32 24 1\n"
    points = "1 0 0 0 9 9 9 0.5 " + " ".join(f"{number} 0" for number in range(1, FRAMES + 1))
    folder = write_text(tmp_path, images=lines, points=points) / "sparse" / "0"
    model = pycolmap.Reconstruction()
    model.read_text(folder)
    model.write_binary(folder)
    for path in folder.glob("*.txt"):
        path.unlink()
    return tmp_path


def test_what_pycolmap_writes_is_read(binary: Path) -> None:
    capture = open_capture(binary, 3.0)
    assert "a depth of 4 there" in capture.description
    np.testing.assert_allclose(capture.camera_to_world[:, :3, :3], poses()[:, :3, :3], atol=1e-9)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
def test_cut_or_longer_binary_files_are_refused(name: str, binary: Path) -> None:
    path = binary / "sparse" / "0" / name
    whole = path.read_bytes()
    for size in {0, 5, 8, 30, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:size])
        assert f"{name}: the file is cut short" in refusal(binary)
    path.write_bytes(whole + b"more")
    assert f"{name}: 4 bytes too many" in refusal(binary)
    path.write_bytes(struct.pack("<Q", 2**60) + whole[8:])
    assert f"{name}: the file is cut short" in refusal(binary)


def test_binary_files_with_impossible_numbers(binary: Path) -> None:
    folder = binary / "sparse" / "0"
    images, cameras = (folder / "images.bin").read_bytes(), (folder / "cameras.bin").read_bytes()
    # Head, number, then four doubles of the quaternion.
    (folder / "images.bin").write_bytes(images[:44] + struct.pack("<d", NAN) + images[52:])
    with pytest.warns(UserWarning, match="translation"):
        assert len(open_capture(binary, 3.0).frames) == FRAMES - 1
    (folder / "images.bin").write_bytes(images)
    # Head, number, model.
    for number in (-1, 17, 999):
        (folder / "cameras.bin").write_bytes(cameras[:12] + struct.pack("<i", number) + cameras[16:])
        assert f"camera 1: the camera model number {number} " in refusal(binary)
    (folder / "cameras.bin").write_bytes(cameras[:16] + struct.pack("<Q", 0) + cameras[24:])
    assert "size of the image" in refusal(binary)


def test_every_camera_model_of_colmap_is_read(tmp_path: Path) -> None:
    """Each with a little distortion: all see about the same."""
    write_text(tmp_path)
    for name in pycolmap.CameraModelId.__members__:
        if name in ("INVALID", "EQUIRECTANGULAR"):
            continue
        camera = pycolmap.Camera.create_from_model_name(1, name, 60.0, 64, 48)
        camera.params = [p if p else 0.01 for p in camera.params]
        (tmp_path / "sparse" / "0" / "cameras.txt").write_text(
            f"1 {name} 64 48 {' '.join(map(str, camera.params.tolist()))}\n"
        )
        capture = open_capture(tmp_path, 3.0)
        assert len(capture.frames) == FRAMES
        focal = capture.intrinsics[0, 0, 0].item() * 64
        assert 40 < focal < 90
        assert capture.frame(0).size == (64, 48)


def test_colmaps_images_are_in_natural_order(tmp_path: Path) -> None:
    names = [f"r_{number}.png" for number in (0, 1, 2, 3, 9, 10, 11, 100)]
    write_pictures(tmp_path, names)
    lines = [f"{line.rsplit(' ', 1)[0]} {name}" for line, name in zip(image_lines(), names, strict=True)]
    capture = open_capture(
        write_text(tmp_path, images="\n\n".join(sorted(lines, key=lambda line: line[-6:]))), 3.0
    )
    assert [frame.path.name for frame in capture.frames] == names


def test_strays_of_macos_are_no_files_of_a_capture(tmp_path: Path) -> None:
    write_text(tmp_path)
    for path in list((tmp_path / "sparse" / "0").iterdir()):
        shutil.copy(path, path.with_name(f"._{path.name}"))
    (tmp_path / "._transforms.json").write_bytes(b"\0\5\x16\7")
    assert len(open_capture(tmp_path, 3.0).frames) == FRAMES
