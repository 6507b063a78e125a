"""What is known of synthetic rooms, in folders and in chunks: the walls behind the door as they were drawn."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.posed.settings import EvaluationViews
from datamodules.realestate10k import RealEstate10kDataModule
from datamodules.synthetic.rooms.shading import render
from datamodules.synthetic.rooms.writer import Settings, plan_scene, write_synthetic_rooms
from dfm_lightning.metrics.looks import pixel_looks


@pytest.mark.parametrize("chunked", [False, True])
def test_looks_are_those_the_generator_drew(tmp_path: Path, chunked: bool) -> None:
    write_synthetic_rooms(tmp_path, 0, 2, frames=16, height=36, chunked=chunked, empty=True)
    index = str(tmp_path / "evaluation_index.json")
    views = EvaluationViews(index=index)
    data = RealEstate10kDataModule(str(tmp_path), image_size=32, evaluation=views, workers=0)
    truth = json.loads((tmp_path / "truth.json").read_text())
    law = data.look_law()
    assert law is not None
    assert dict(zip(law.names, law.probabilities.tolist(), strict=True)) == pytest.approx(truth["distribution"])
    scenes = list(data.test_dataloader())
    assert len(scenes) == 2
    for batch in scenes:
        name = truth["scenes"][batch.key[0]]["walls_behind"]
        assert law.names[int(batch.truth["look"])] == name
        hidden = batch.truth["hidden"][0]
        views = torch.cat([batch.context.observation, batch.target.observation, batch.novel.observation], dim=1)[0]
        assert hidden.shape == (len(views), 1, 32, 32)
        assert hidden[0].max() == 0, "the context shows nothing of it"
        # Behind the door, more pixels have the colour that was drawn than any other of the walls' colours.
        looks = pixel_looks(views, law.colours)[hidden[:, 0] > 0.99]
        counts = [(looks == look).sum().item() for look in range(len(law.names))]
        assert counts.index(max(counts)) == law.names.index(name), counts


def test_a_scene_can_be_planned_with_another_hidden_colour() -> None:
    settings = Settings(0, 1, 16, 36, chunked=False, empty=True, camera_paths=(), seed=0)
    planned = [plan_scene(settings, 0, [], np.random.default_rng(seed)).scene for seed in range(6)]
    assert len({scene.walls_behind for scene in planned}) > 1
    first = [
        render(scene.house, scene.camera_to_world[0], scene.intrinsics, 36, settings.width) for scene in planned
    ]
    last = [
        render(scene.house, scene.camera_to_world[-1], scene.intrinsics, 36, settings.width) for scene in planned
    ]
    for scene, start, end in zip(planned, first, last, strict=True):
        np.testing.assert_array_equal(start, first[0])
        assert (scene.walls_behind == planned[0].walls_behind) is np.array_equal(end, last[0])


def test_real_data_have_no_law(tmp_path: Path) -> None:
    assert RealEstate10kDataModule(str(tmp_path)).look_law() is None
    assert RealEstate10kDataModule(image=str(tmp_path / "photo.jpg")).look_law() is None
