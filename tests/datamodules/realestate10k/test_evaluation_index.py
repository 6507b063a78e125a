"""Evaluation on a committed index of frames."""

import json
import logging
from pathlib import Path

import pytest
from test_realestate10k_forms import DATA, module

from datamodules.posed.evaluation_index import IndexEntry, read_evaluation_index
from dfm_lightning.errors import UserError

PART = DATA / "evaluation_index_part.json"


def write_index(path: Path, content: object) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def test_a_part_of_the_official_index() -> None:
    index = read_evaluation_index(PART)
    assert index.nulls == 1
    assert index.entries["000eb6240f06dd5a"] == IndexEntry([0, 45], [6, 8, 14])


def test_the_diffused_view_is_the_target_farthest_from_what_is_given() -> None:
    entry = IndexEntry([0, 45], [6, 8, 40])
    assert entry.roles(1).context == [0]
    assert entry.roles(1).target == 40
    assert entry.roles(1).novel == [6, 8]
    assert entry.roles(2).context == [0, 45]
    assert entry.roles(2).target == 8


def test_test_follows_the_index_and_counts_nulls(
    rooms: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = sorted(path.stem for path in (rooms / "test").glob("*.txt"))
    content = {"ffff": None, keys[1]: {"context": [2, 12], "target": [5, 9]}}
    index = write_index(tmp_path / "index.json", content)
    with caplog.at_level(logging.INFO):
        batches = list(module(rooms, evaluation={"index": index}).test_dataloader())
    assert [batch.key[0] for batch in batches] == [keys[1]]
    reader = module(rooms).reader("test").scene(keys[1])
    expected = reader.camera_to_world[[2, 9, 5]].float()
    found = [part.params.absolute_pose[0] for part in (batches[0].context, batches[0].target, batches[0].novel)]
    for pose, wanted in zip(found, expected, strict=True):
        assert pose.shape == (1, 4, 4)
        assert pose[0].allclose(wanted, atol=1e-6)
    assert "1 scene; left out: 1 without frames (null), 0 " in caplog.text


def test_the_synthetic_index_is_understood(rooms: Path) -> None:
    data = module(rooms, evaluation={"index": str(rooms / "evaluation_index.json")}, views={"contexts": 2})
    batches = list(data.test_dataloader())
    assert len(batches) == 2
    assert batches[0].context.observation.shape == (1, 2, 3, 16, 16)
    assert batches[0].novel.observation.shape[1] == 2


def test_an_unknown_scene_is_refused_unless_it_is_to_be_skipped(rooms: Path, tmp_path: Path) -> None:
    key = next((rooms / "test").glob("*.txt")).stem
    entry = {"context": [0, 10], "target": [5]}
    index = write_index(tmp_path / "index.json", {"0123456789abcdef": entry, key: entry})
    with pytest.raises(UserError, match=r"'0123456789abcdef'.*data\.scenes\.missing"):
        module(rooms, evaluation={"index": index}).test_dataloader()
    batches = list(module(rooms, evaluation={"index": index}, scenes={"missing": "skip"}).test_dataloader())
    assert [batch.key[0] for batch in batches] == [key]
    nothing = write_index(tmp_path / "none.json", {"0123456789abcdef": entry})
    with pytest.raises(UserError, match=r"none\.json"):
        module(rooms, evaluation={"index": nothing}, scenes={"missing": "skip"}).test_dataloader()


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"a": {"context": [0]}}', '{"a": {"context": [], "target": [1]}}',
     '{"a": {"context": [-1], "target": [1]}}', '{"a": null}'],
)  # fmt: skip
def test_what_is_no_index_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(UserError, match="evaluation index") as error:
        read_evaluation_index(tmp_path / "index.json")
    assert "\n" not in str(error.value)


def test_a_position_beyond_the_scene_leaves_it_out(
    rooms: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    keys = sorted(path.stem for path in (rooms / "test").glob("*.txt"))
    content = {keys[0]: {"context": [0, 13], "target": [14]}, keys[1]: {"context": [0, 13], "target": [7]}}
    data = module(rooms, evaluation={"index": write_index(tmp_path / "index.json", content)})
    assert [batch.key[0] for batch in data.test_dataloader()] == [keys[1]]
    assert any("no camera at position 14 of 14" in str(warning.message) for warning in recwarn)
