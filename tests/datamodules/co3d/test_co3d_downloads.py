"""Half downloads: what is not there yet is neither remembered as if it were all, nor the end of an evaluation."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from small_co3d import FRAMES, module, train_batches

from datamodules.co3d.inspection import inspect_root
from datamodules.co3d.scales import CACHE_FILE
from datamodules.co3d.verification import verify_root
from dfm_lightning.errors import UserError

TEST = ["toy_0005", "toy_0006", "toy_0007"]


def scales(root: Path) -> dict[str, tuple[float, str]]:
    (category,) = inspect_root(root).categories
    return {each.name: (each.scale.value, each.scale.source) for each in category.sequences}


@pytest.mark.parametrize("gone", ["all", "one"])
def test_scales_without_the_listed_depths_are_not_kept(
    gone: str, own_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = scales(own_root)
    cache = own_root / "toy" / CACHE_FILE
    cache.unlink()
    depths = own_root / "toy" / "toy_0002" / "depths"
    held = own_root / "held"
    if gone == "all":
        depths.rename(held)
    else:
        first = sorted(depths.iterdir())[0]
        first.rename(held)
    with caplog.at_level(logging.WARNING):
        half = scales(own_root)
    assert "toy: " in caplog.text
    assert "not kept" in caplog.text
    assert half["toy_0002"] != expected["toy_0002"]
    assert half["toy_0002"][1] == ("cameras" if gone == "all" else "depth")
    assert set(json.loads(cache.read_text())["scales"]) == set(expected) - {"toy_0002"}
    held.rename(depths if gone == "all" else first)
    assert scales(own_root) == expected
    assert set(json.loads(cache.read_text())["scales"]) == set(expected)


def test_scales_that_earlier_versions_kept_from_half_a_download_are_found_again(own_root: Path) -> None:
    expected = scales(own_root)
    cache = own_root / "toy" / CACHE_FILE
    content = json.loads(cache.read_text())
    del content["all_depths_read"]
    content["scales"]["toy_0001"] = {"scale": 123.0, "source": "cameras"}
    content["scales"]["toy_0003"] = {"scale": 456.0, "source": "depth"}
    cache.write_text(json.dumps(content))
    found = scales(own_root)
    assert found["toy_0001"] == expected["toy_0001"]
    assert found["toy_0003"] == (456.0, "depth"), "what is from depths is kept as it was"


def test_test_sequences_that_are_not_there(own_root: Path) -> None:
    """An error that says how to go on, before anything is sampled; then all the others."""
    shutil.rmtree(own_root / "toy" / "toy_0006")
    for loader in ("test_dataloader", "predict_dataloader"):
        with pytest.raises(UserError, match=r"1 of 3 test scenes.*toy_0006/.*data\.scenes\.missing"):
            getattr(module(own_root), loader)()
        with pytest.warns(UserWarning, match="1 sequence"):
            items = list(getattr(module(own_root, scenes={"missing": "skip"}), loader)())
        assert [item.key[0] for item in items] == ["toy_0005", "toy_0007"]
    for name in TEST:
        shutil.rmtree(own_root / "toy" / name, ignore_errors=True)
    with pytest.raises(UserError, match=r"test scene.*3 sequence"):
        module(own_root, scenes={"missing": "skip"}).test_dataloader()


def test_test_sequences_of_which_a_frame_is_missing(own_root: Path) -> None:
    (own_root / "toy" / "toy_0006" / "images" / f"frame{FRAMES // 3 + 1:06d}.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 3 test scenes.*frame000005\.jpg"):
        module(own_root).test_dataloader()
    with pytest.warns(UserWarning, match="1 of 3 test scenes"):
        items = list(module(own_root, scenes={"missing": "skip"}).test_dataloader())
    assert [item.key[0] for item in items] == ["toy_0005", "toy_0007"]


def test_the_best_are_chosen_of_those_that_are_there(own_root: Path) -> None:
    best = [scene.sequence.name for scene in module(own_root, scenes={"train": 2}).scenes("train")]
    shutil.rmtree(own_root / "toy" / best[0])
    data = module(own_root, scenes={"train": 2, "missing": "skip"})
    with pytest.warns(UserWarning, match="sequence"):
        names = [scene.sequence.name for scene in data.scenes("train")]
    assert len(names) == 2
    assert best[1] in names
    assert {key for batch in train_batches(data, 6) for key in batch.key} == set(names)
    assert data.replaced_draws == 0
    assert data.mean_image().isfinite().all()


def test_training_goes_on_without_skipping(own_root: Path) -> None:
    shutil.rmtree(own_root / "toy" / "toy_0001")
    data = module(own_root)
    assert "toy_0001" not in {key for batch in train_batches(data, 6) for key in batch.key}
    assert data.replaced_draws > 0


def test_validation_leaves_out_what_it_cannot_read(own_root: Path) -> None:
    lists = own_root / "toy" / "set_lists" / "set_lists_fewview_dev.json"
    content = json.loads(lists.read_text())
    content["val"] += [[name, number, path] for name, number, path in content["test"] if name == "toy_0005"]
    lists.write_text(json.dumps(content))
    shutil.rmtree(own_root / "toy" / "toy_0004" / "images")
    with pytest.warns(UserWarning, match="1 of 2 val scenes"):
        (batch,) = module(own_root).val_dataloader()
    assert list(batch.key) == ["toy_0005"]


def test_verification_lists_frames_of_evaluation_batches_that_are_not_there(own_root: Path) -> None:
    folder = own_root / "toy" / "eval_batches"
    path = next(folder.glob("*.json"))
    batches = json.loads(path.read_text())
    batches[0].append(["toy_0005", 999, "toy/toy_0005/images/frame001000.jpg"])
    path.write_bytes(json.dumps(batches).encode("utf-8-sig"))
    (problem,) = verify_root(own_root)
    assert "lists 1 frame without annotation, such as 999 of toy_0005" in problem.what
