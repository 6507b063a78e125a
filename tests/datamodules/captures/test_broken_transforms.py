"""transforms.json with something wrong in it: frames left out with the reason, files refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_captures import FRAMES, INF, NAN, poses, refusal, save, transforms, write_pictures

from datamodules.captures import open_capture
from datamodules.posed.path_files import read_camera_path
from datamodules.posed.settings import PredictedViews
from datamodules.realestate10k import RealEstate10kDataModule
from datamodules.realestate10k.verification import inspect_root, verify_root
from dfm_lightning.errors import UserError


def at(frame: int, row: int, column: int, value: float) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        content["frames"][frame]["transform_matrix"][row][column] = value

    return change


def own(frame: int, **values: Any) -> Callable[[dict], None]:
    return lambda content: content["frames"][frame].update(values)


def rotation(frame: int, factors: list[float]) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        matrix = np.array(content["frames"][frame]["transform_matrix"])
        matrix[:3, :3] *= factors
        content["frames"][frame]["transform_matrix"] = matrix.tolist()

    return change


BROKEN_FRAMES = [
    (at(3, 0, 3, NAN), "position is not finite"),
    (at(3, 2, 3, -INF), "position is not finite"),
    (at(3, 2, 3, 1e30), "position is impossibly far"),
    (at(3, 1, 1, NAN), "rotation is not finite"),
    (at(3, 0, 0, 7.0), "columns are not perpendicular"),
    (at(3, 3, 3, 0.0), "last row"),
    (rotation(3, [2, 2, 2]), "the rotation is scaled"),
    (rotation(3, [-1, 1, 1]), "mirrored"),
    (rotation(3, [0, 0, 0]), "rotation is none"),
    (own(3, w=0), "size of the image"),
    (own(3, h=-48), "size of the image"),
    (own(3, w="wide"), "w is not a finite number"),
    (own(3, h=None), "h is not a finite number"),
    (own(3, fl_x=0.0), "focal length"),
    (own(3, fl_y=NAN), "fl_y is not a finite number"),
    (own(3, cx=INF), "cx is not a finite number"),
    (own(3, k1=NAN), "k1 is not a finite number"),
    (own(3, k1=-9.0), "cannot be undone"),
    (own(3, camera_model="EQUIRECTANGULAR"), "EQUIRECTANGULAR is not known"),
    (own(3, camera_model=5), "5 is not known"),
    (own(3, transform_matrix=[[1, 2], [3, 4]]), "not 4×4"),
    (own(3, transform_matrix="none"), "not a 4×4 matrix of numbers"),
    (own(3, transform_matrix=[[1, 0, 0, 0], [0, 1, 0]]), "not a 4×4 matrix of numbers"),
    (own(3, file_path=7), "file_path is not a name"),
    (own(3, file_path="images/none.png"), "picture is missing"),
    (own(3, file_path="images/._003.png"), "macOS"),
    (lambda content: content["frames"].__setitem__(3, "frame"), "not a 4×4 matrix"),
    (lambda content: content["frames"][3].pop("file_path"), "file_path is not given"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), BROKEN_FRAMES, ids=[reason for _, reason in BROKEN_FRAMES])
@pytest.mark.filterwarnings("ignore:.*cannot be used")
def test_a_broken_frame_is_left_out_and_changes_nothing_else(
    change: Callable[[dict], None], reason: str, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "broken")
    write_pictures(tmp_path / "without")
    content = transforms()
    change(content)
    broken = open_capture(save(tmp_path / "broken", content), 3.0)
    content = transforms()
    del content["frames"][3]
    without = open_capture(save(tmp_path / "without", content), 3.0)
    assert broken.camera_to_world.equal(without.camera_to_world)
    assert "a depth of 4 there" in broken.description
    assert f"1 of {FRAMES} frames" in broken.description
    assert reason in broken.description
    assert "frames[3]" in broken.description
    (problem,) = verify_root(tmp_path / "broken")
    assert reason in problem.what
    assert "frames[3]" in problem.what
    assert f"1 of {FRAMES} frames" in str(inspect_root(tmp_path / "broken"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"w": 0}, "size of the image is impossible"),
        ({"h": NAN}, "h is not a finite number"),
        ({"fl_x": None}, "fl_x is not a finite number"),
        ({"camera_angle_x": 0, "fl_x": ...}, "camera_angle_x is not an angle"),
        ({"camera_angle_x": 4.0, "fl_x": ...}, "camera_angle_x is not an angle"),
        ({"camera_angle_x": -0.5, "fl_x": ...}, "camera_angle_x is not an angle"),
        ({"camera_angle_x": NAN, "fl_x": ...}, "camera_angle_x is not a finite number"),
        ({"camera_angle_x": 0.7, "camera_angle_y": 0, "fl_x": ..., "fl_y": ...}, "camera_angle_y is not an angle"),
        ({"fl_x": ...}, "neither fl_x nor camera_angle_x"),
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR is not known"),
        ({"camera_model": "VR180_L"}, "VR180_L is not known"),
    ],
)
def test_where_no_frame_can_be_used_the_capture_is_refused(changes: dict, reason: str, tmp_path: Path) -> None:
    write_pictures(tmp_path)
    content = {**transforms(), **changes}
    message = refusal(save(tmp_path, {name: value for name, value in content.items() if value is not ...}))
    assert reason in message
    assert "frames[0] (images/000.png)" in message
    assert f"{FRAMES} of {FRAMES} frames" in message


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"frames": []}', '{"frames": 3}', "[" * 100_000, "\x00"])
def test_what_is_no_transforms_json_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "transforms.json").write_text(content)
    assert "transforms.json" in refusal(tmp_path)


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "transforms.json").write_text(json.dumps(transforms()), encoding="utf-8-sig")
    assert len(open_capture(tmp_path, 3.0).frames) == FRAMES


def test_missing_pictures_are_each_listed(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    save(tmp_path, transforms())
    for number in (1, 6):
        (tmp_path / "images" / f"{number:03d}.png").unlink()
    with pytest.warns(UserWarning, match=r"2 of 8 frames.*\(2: .*missing"):
        problems = verify_root(tmp_path)
    assert ["001.png" in problems[0].what, "006.png" in problems[1].what, len(problems)] == [True, True, 2]


def test_frames_are_in_natural_order(tmp_path: Path) -> None:
    names = [f"r_{number}.png" for number in (0, 1, 2, 3, 9, 10, 11, 100)]
    write_pictures(tmp_path, names)
    content = transforms(names)
    content["frames"].sort(key=lambda frame: frame["file_path"])
    capture = open_capture(save(tmp_path, content), 3.0)
    assert [frame.path.name for frame in capture.frames] == names
    np.testing.assert_allclose(capture.camera_to_world[:, :3, :3], poses()[:, :3, :3], atol=1e-12)
    path = read_camera_path(tmp_path / "transforms.json").numpy()
    np.testing.assert_allclose(path, poses(), atol=1e-12)


def test_a_camera_path_with_a_broken_camera_is_refused(tmp_path: Path) -> None:
    content = transforms()
    content["frames"][2]["transform_matrix"][0][3] = NAN
    with pytest.raises(UserError, match=r"1 of 8 frames.*frames\[2\]"):
        read_camera_path(save(tmp_path, content) / "transforms.json")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (("transforms_train.json", "transforms_test.json"), "transforms_test.json"),
        (("transforms_train.json", "transforms_val.json"), "transforms_train.json"),
        (("transforms_val.json",), "transforms_val.json"),
        (("transforms_train.json", "transforms.json"), "transforms.json"),
    ],
)
def test_nerfs_files_of_splits(written: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    write_pictures(tmp_path)
    content = {"camera_angle_x": 0.69, "frames": transforms()["frames"]}
    for frame in content["frames"]:
        frame["file_path"] = "./" + frame["file_path"].removesuffix(".png")
    for name in written:
        (tmp_path / name).write_text(json.dumps(content))
    capture = open_capture(tmp_path, 3.0)
    assert f"{FRAMES} frames by {expected}" in capture.description
    assert capture.intrinsics[0, 0, 0].item() == pytest.approx(0.5 / np.tan(0.69 / 2))
    assert capture.frame(FRAMES - 1).size == (64, 48)
    (request,) = RealEstate10kDataModule(
        str(tmp_path), image_size=16, workers=0, prediction=PredictedViews(frames=4)
    ).predict_dataloader()
    assert request.params.camera_to_world.shape == (1, 4, 4, 4)


def test_the_split_whose_pictures_are_there_is_read(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "transforms_train.json").write_text(json.dumps(transforms()))
    absent = transforms([f"absent_{number}.png" for number in range(FRAMES)])
    (tmp_path / "transforms_test.json").write_text(json.dumps(absent))
    assert "8 frames by transforms_train.json" in open_capture(tmp_path, 3.0).description


def test_near_and_far_say_how_deep_a_capture_is(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    save(tmp_path, {**transforms(), "near": 2.0, "far": 6.0})
    assert "a depth of 3 there" in open_capture(tmp_path, 3.0).description
    for near, far in ((0, 6), (-2, 6), (6, 2), (NAN, 6), (2, INF), (2, "far")):
        message = refusal(save(tmp_path, {**transforms(), "near": near, "far": far}))
        assert "transforms.json: " in message
        assert "bounds are impossible" in message or "is not a finite number" in message
