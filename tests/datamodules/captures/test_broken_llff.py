"""poses_bounds.npy with something wrong in it: rows left out with the reason, files refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from small_captures import FRAMES, INF, NAN, poses, refusal, write_pictures

from datamodules.captures import open_capture


def table() -> np.ndarray:
    right, down, forward, position = np.moveaxis(poses()[:, :3], 2, 0)
    size = np.tile([48.0, 64.0, 60.0], (FRAMES, 1))
    matrices = np.stack([down, right, -forward, position, size], axis=2)
    return np.concatenate([matrices.reshape(FRAMES, 15), np.tile([2.0, 6.0], (FRAMES, 1))], axis=1)


BROKEN_ROWS = [
    (15, 0.0, "bounds"), (15, -2.0, "bounds"), (15, NAN, "bounds"), (16, INF, "bounds"), (16, 1.0, "bounds"),
    (3, NAN, "position"), (0, INF, "rotation"), (1, 9.0, "rotation is none"), (4, 0.0, "size of the image"),
    (9, NAN, "size of the image"), (14, -60.0, "focal length"), (14, 0.0, "focal length"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value", "reason"), BROKEN_ROWS)
@pytest.mark.filterwarnings("ignore:.*cannot be used")
def test_a_broken_row_is_left_out(column: int, value: float, reason: str, tmp_path: Path) -> None:
    write_pictures(tmp_path)
    rows = table()
    rows[2, column] = value
    np.save(tmp_path / "poses_bounds.npy", rows)
    capture = open_capture(tmp_path, 3.0)
    assert [frame.path.name for frame in capture.frames] == [f"{n:03d}.png" for n in range(FRAMES) if n != 2]
    assert "a depth of 3 there" in capture.description
    assert reason in capture.description
    assert "row 2 (002.png)" in capture.description
    rows[:, column] = value
    np.save(tmp_path / "poses_bounds.npy", rows)
    assert reason in refusal(tmp_path)


def test_tables_of_another_kind_are_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    path = tmp_path / "poses_bounds.npy"
    with path.open("wb") as file:
        np.savez(file, poses=table())
    assert "archive" in refusal(tmp_path)
    wrong = (table()[:, :15], table()[0], table()[:0], np.full((FRAMES, 17), "a"), table().astype(complex),
             np.full((FRAMES, 17), None))  # fmt: skip
    for content in wrong:
        np.save(path, content, allow_pickle=True)
        assert "poses_bounds.npy" in refusal(tmp_path)
    for content in (b"no array", b""):
        path.write_bytes(content)
        assert "poses_bounds.npy" in refusal(tmp_path)


def test_llff_pairs_rows_with_pictures_in_plain_order_without_strays(tmp_path: Path) -> None:
    names = sorted(f"r_{number}.png" for number in (0, 1, 2, 3, 9, 10, 11, 100))
    write_pictures(tmp_path, names)
    for name in names:
        (tmp_path / "images" / f"._{name}").write_bytes(b"\0\5\x16\7")
    np.save(tmp_path / "poses_bounds.npy", table())
    capture = open_capture(tmp_path, 3.0)
    assert [frame.path.name for frame in capture.frames] == names
    np.testing.assert_allclose(capture.camera_to_world[:, :3, :3], poses()[:, :3, :3], atol=1e-12)
