"""The model that comes with the program for the demo's rooms, on rooms that it was not trained on."""

import pytest
import torch
from linear_denoiser import assert_better_than_linear

import dfm_lightning
from datamodules.posed.settings import EvaluationViews
from datamodules.posed.two_ends import TwoEnds
from datamodules.realestate10k import RealEstate10kDataModule
from datamodules.synthetic.rooms.writer import EVALUATION_INDEX, write_synthetic_rooms
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Batch, concatenate

pytestmark = pytest.mark.slow

LEVELS = (250, 500, 750, 875)
SCENES = 6


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """A batch of scenes of another seed than the training's."""
    root = tmp_path_factory.mktemp("rooms")
    write_synthetic_rooms(root, train_scenes=1, test_scenes=SCENES, frames=16, height=48, empty=True, seed=9)
    index = EvaluationViews(index=str(root / EVALUATION_INDEX))
    data = RealEstate10kDataModule(
        str(root), views=TwoEnds(distance=(8, 15)), image_size=32, evaluation=index, workers=0
    )
    data.prepare_data()
    data.setup("test")
    batches = [batch._replace(key=[], truth={}) for batch in data.test_dataloader()]
    return concatenate(batches, dim=0)._replace(key=[str(number) for number in range(SCENES)])


@torch.no_grad()
def test_it_denoises_better_than_any_linear_denoiser(rooms: Batch) -> None:
    """The linear one has two numbers a level, fitted to the scenes that judge it, and the model's own estimate."""
    model = dfm_lightning.load("realestate10k_demo")
    assert isinstance(model, InverseGraphics)
    assert_better_than_linear(model.eval(), rooms, LEVELS)
