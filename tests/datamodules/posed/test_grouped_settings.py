"""Configs lay settings of a group over each other; configs of earlier versions give the same data modules."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule

from datamodules.posed.back_from_target import BackFromTarget
from datamodules.posed.camera_moves import CameraMove
from datamodules.posed.two_ends import TwoEnds
from dfm_lightning.cli import main
from dfm_lightning.cli.parser import DfmParser

CO3D = "data: {class_path: datamodules.co3d.Co3DDataModule, init_args: {root: x, category: toy, %s}}"
ROOMS = "data: {class_path: datamodules.realestate10k.RealEstate10kDataModule, init_args: {root: x, %s}}"


def module(folder: Path, *given: str) -> Any:
    """The data module of configs (in braces or not) and options."""
    parser = DfmParser()
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(LightningDataModule, "data")
    arguments = []
    for number, text in enumerate(given):
        path = folder / f"{number}.yaml"
        path.write_text(text)
        arguments += [text] if text.startswith("--") else ["--config", str(path)]
    return parser.instantiate(parser.parse_args(arguments)).data


def test_each_data_set_has_its_usual_settings(tmp_path: Path) -> None:
    co3d, rooms = (module(tmp_path, base % "workers: 0") for base in (CO3D, ROOMS))
    assert isinstance(co3d.views, BackFromTarget)
    assert (co3d.views.contexts, co3d.views.novel, co3d.views.distance) == (3, 1, (20, 40))
    assert isinstance(rooms.views, TwoEnds)
    assert (rooms.views.contexts, rooms.views.novel, rooms.views.distance) == (1, 1, (100, 180))
    assert (co3d.sequences, rooms.counts.val) == ({"train": 500, "val": 8, "test": 50}, 32)


@pytest.mark.parametrize("base", [CO3D, ROOMS])
def test_one_setting_of_a_group_leaves_the_others(base: str, tmp_path: Path) -> None:
    first = base % "views: {init_args: {contexts: 2, distance: [1, 8]}}, prediction: {frames: 7, size: 9}"
    second = "data: {init_args: {views: {init_args: {novel: 4}}, prediction: {trajectory: move}}}"
    data = module(tmp_path, first, second, "--data.prediction.frames=5", "--data.views.contexts=1")
    assert (data.views.contexts, data.views.novel, tuple(data.views.distance)) == (1, 4, (1, 8))
    assert (data.prediction.frames, data.prediction.size, data.prediction.trajectory) == (5, 9, "move")


@pytest.mark.parametrize("base", [CO3D, ROOMS])
def test_a_config_of_an_earlier_version_gives_the_same(base: str, tmp_path: Path) -> None:
    old = "context_views: 2, novel_views: 3, frame_distance: [1, 8], val_scenes: 4, test_scenes: null, masks: true"
    old += ", camera_move: {kind: sway, size: 0.5}, trajectory_frames: 6, evaluation_views: 5, draws_per_scene: 2"
    over = "data: {init_args: {frame_distance: [2, 9], missing_scenes: skip}}"
    data = module(tmp_path, base % old, over)
    assert (data.views.contexts, data.views.novel, tuple(data.views.distance)) == (2, 3, (2, 9))
    assert (data.counts.missing, data.training.draws_per_scene) == ("skip", 2)
    assert (data.evaluation.novel, data.evaluation.masks) == (5, True)
    assert (data.camera_move, data.prediction.frames) == (CameraMove("sway", 0.5), 6)


@pytest.mark.parametrize(
    ("option", "said"), [("scenes.tset", "'test'"), ("prediction.frmes", "'frames'"), ("scenes.zzzz", "missing")]
)
def test_a_misspelt_setting_of_a_group_is_told_from_its_own(
    option: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", "--config", "co3d_demo", f"--data.{option}=3"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert said in line
    assert f"data.{option}" in line
