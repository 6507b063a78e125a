"""SparseFusion's protocol on Co3D: context views, evenly spaced ones, crops around the object."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_co3d import FRAMES, module, train_batches

from datamodules.co3d.object_crops import ObjectCrop
from datamodules.co3d.reader import Co3DScene
from datamodules.posed.sparse_views import SparseViews
from dfm_lightning.errors import UserError
from dfm_lightning.types import as_request

VIEWS = SparseViews(contexts=2, training_contexts=3, spaced=8)


def test_training_views_are_all_different_and_at_random(synthetic_root: Path) -> None:
    data = module(synthetic_root, views=VIEWS)
    scene = data.reader("train").scene(data.reader("train").keys()[0])
    torch.manual_seed(0)
    drawn = [VIEWS.draw(scene) for _ in range(20)]
    assert all(len({*roles.context, roles.target}) == 4 for roles in drawn)
    assert len({roles.target for roles in drawn}) > 5


@pytest.mark.parametrize("contexts", [1, 2, 6])
def test_evaluation_takes_a_permutation_of_even_views(synthetic_root: Path, contexts: int) -> None:
    choice = SparseViews(contexts, spaced=8)
    data = module(synthetic_root, views=choice)
    reader = data.reader("test")
    choice.begin(reader.keys())
    for place, key in enumerate(reader.keys()):
        scene = reader.scene(key)
        roles = choice.choose(scene, 8)
        usable = scene.usable_positions()
        even = [usable[round(i * (len(usable) - 1) / 7)] for i in range(8)]
        order = torch.randperm(8, generator=torch.Generator().manual_seed(place)).tolist()
        assert roles.context == [even[i] for i in order[:contexts]]
        assert sorted(roles.positions()) == sorted(even)
        assert roles.novel == sorted(roles.novel)
        assert choice.choose(scene, 0).novel == []


def test_crops_are_masked_squares_around_the_object(synthetic_root: Path) -> None:
    crop = ObjectCrop()
    plain = module(synthetic_root)
    cropped = module(synthetic_root, object_crop=crop)
    key = plain.reader("test").keys()[0]
    whole, scene = (data.reader("test").scene(key) for data in (plain, cropped))
    assert isinstance(scene, Co3DScene)
    image, intrinsics = scene.view(0, 32)
    mask, valid = scene.mask(0, 32), crop.valid(scene.source.sequence.frames[0], 32)
    assert (image[:, mask[0] == 0] == -1).all()
    shown = mask[0] > 0.4
    rows, columns = (torch.where(shown.any(dim=axis))[0] for axis in (1, 0))
    extent = max(int(rows[-1] - rows[0]), int(columns[-1] - columns[0])) + 1
    assert extent / 32 == pytest.approx(1 / 1.3, abs=0.12)
    for edges in (rows, columns):
        assert float(edges[0] + edges[-1]) / 2 == pytest.approx(15.5, abs=2.5) or not valid.all()
    # The crop's camera sees the same world: a ray through its middle goes through the same pixel of the picture.
    picture = np.asarray(whole.frame(0), dtype=np.float32)
    height, width = picture.shape[:2]
    ray = torch.linalg.inv(intrinsics) @ torch.tensor([0.5, 0.5, 1.0])
    x, y, _ = whole.intrinsics[0] @ ray
    with Image.open(scene.source.sequence.frames[0].mask_path) as file:
        box = crop.box(np.array(file.convert("L"), dtype=np.float32) / 255, scene.source.sequence.frames[0])
    assert float(x) * width == pytest.approx((box.left + box.right) / 2, abs=1e-3)
    assert float(y) * height == pytest.approx((box.top + box.bottom) / 2, abs=1e-3)


def test_a_test_knows_what_lies_in_the_pictures_and_keeps_the_worlds_units(synthetic_root: Path) -> None:
    masks, crop = {"masks": True}, ObjectCrop(margin=3.0)
    data = module(synthetic_root, views=VIEWS, object_crop=crop, target_scale=None, evaluation=masks)
    item = next(iter(data.test_dataloader()))
    assert item.truth["valid"].shape == (1, 8, 1, 16, 16)
    assert 0 < item.truth["valid"].mean() < 1
    assert item.context.observation.shape[1] == 2
    assert as_request(item).params.pixels.shape[1] == 6
    sequence = data.scenes("test")[0].sequence
    positions = [frame.number for frame in sequence.frames]
    assert len(positions) == FRAMES
    distances = item.context.params.absolute_pose[0, :, :3, 3].norm(dim=-1)
    own = sequence.camera_to_world[:, :3, 3].norm(dim=-1)
    assert all((own - distance).abs().min() < 1e-4 for distance in distances)


def test_training_batches_have_all_context_views(synthetic_root: Path) -> None:
    data = module(synthetic_root, views=VIEWS, object_crop=ObjectCrop(margin=3.0))
    batch, *_ = train_batches(data, 1)
    assert batch.context.observation.shape[:2] == (2, 3)
    assert batch.novel.observation.shape[1] == 0
    # Crops are black outside of their pictures, but for pixels at the border, which are part of both.
    valid, seen = batch.truth["valid"], torch.cat([batch.context.observation, batch.target.observation], dim=1)
    assert valid.shape == (2, 4, 1, 16, 16)
    outside = torch.nn.functional.max_pool2d(valid[:, :, 0], 3, 1, 1)[:, :, None] < 0.5
    assert 0 < outside.float().mean() < 1
    assert (seen[outside.expand_as(seen)] == -1).all()


def test_an_empty_mask_is_said_by_its_file(own_root: Path) -> None:
    for path in own_root.rglob("masks/*.png"):
        Image.new("L", Image.open(path).size).save(path)
    data = module(own_root, views=VIEWS, object_crop=ObjectCrop())
    with pytest.raises(UserError, match="mask"):
        data.test_dataloader()
