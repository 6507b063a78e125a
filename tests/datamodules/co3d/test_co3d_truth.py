"""What is known of synthetic scenes: distances that the images agree with, looks that the generator drew."""

import json
from pathlib import Path

import pytest
import torch

from datamodules.co3d import Co3DDataModule
from datamodules.posed.settings import EvaluationViews
from datamodules.synthetic.co3d.writer import write_synthetic_co3d
from dfm_lightning.geometry.rays import project_points, ray_directions, ray_origins, transform_points
from dfm_lightning.types import Batch, Cameras, concatenate, map_tensors


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("co3d")
    write_synthetic_co3d(root, train_scenes=1, val_scenes=1, test_scenes=2, frames=8, height=64, width=80)
    return root


@pytest.fixture(scope="module")
def data(root: Path) -> Co3DDataModule:
    views = EvaluationViews(novel=3)
    data = Co3DDataModule(str(root), "toy", image_size=32, evaluation=views, workers=0, cache_dir=str(root))
    data.prepare_data()
    data.setup("test")
    return data


@pytest.fixture(scope="module")
def batch(data: Co3DDataModule) -> Batch:
    return next(iter(data.test_dataloader()))


def test_looks_are_those_the_generator_drew(root: Path, data: Co3DDataModule) -> None:
    truth = json.loads((root / "truth.json").read_text())
    law = data.look_law()
    assert law is not None
    assert dict(zip(law.names, law.probabilities.tolist(), strict=True)) == pytest.approx(truth["distribution"])
    for batch in data.test_dataloader():
        drawn = truth["sequences"][batch.key[0]]["back_colour"]
        assert law.names[int(batch.truth["look"])] == drawn
        assert batch.truth["hidden"][0, 0].max() == 0, "the context shows nothing of it"
        assert batch.truth["hidden"][0, 1:].max() == 1


def test_a_point_is_as_far_from_each_view_as_the_others_say(batch: Batch) -> None:
    """Points at the distances of one view are found by the others at the distance that they state there."""
    cameras: Cameras = map_tensors(
        lambda t: t.double(), concatenate([batch.context, batch.target, batch.novel], dim=1).params
    )
    distance = batch.truth["distance"].double()[0, :, 0]
    known = distance > 0
    rays, origins = ray_directions(cameras)[0], ray_origins(cameras)[0]
    errors = []
    for view in range(len(distance)):
        points = (origins[view] + rays[view] * distance[view][..., None])[known[view]]
        for other in range(len(distance)):
            local = transform_points(torch.linalg.inv(cameras.camera_to_world[:, other : other + 1]), points[None])
            place = project_points(cameras.intrinsics[:, other : other + 1], local)[0, 0]
            inside = ((place > 0) & (place < 1)).all(dim=-1) & (local[0, 0, :, 2] > 0)
            column, row = (place[inside] * distance.shape[-1]).long().unbind(-1)
            stated = distance[other][row, column]
            found = (points - origins[other]).norm(dim=-1)[inside]
            errors.append((found / stated.clamp(min=1e-6) - 1)[stated > 0])
    error = torch.cat(errors)
    # What is hidden from a view lies behind what it states; nothing lies in front, but at edges by half a pixel.
    assert (error < -0.05).double().mean() < 0.03
    assert (error.abs() < 0.05).double().mean() > 0.5


def test_real_data_have_no_law(root: Path, tmp_path: Path) -> None:
    (tmp_path / "toy").symlink_to(root / "toy")
    (tmp_path / "category_to_subset_name_list.json").symlink_to(root / "category_to_subset_name_list.json")
    data = Co3DDataModule(str(tmp_path), "toy", image_size=32, workers=0, cache_dir=str(tmp_path))
    data.prepare_data()
    data.setup("test")
    assert data.look_law() is None
    assert next(iter(data.test_dataloader())).truth == {}
