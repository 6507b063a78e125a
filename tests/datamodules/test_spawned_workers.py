"""Data sets travel to worker processes that are spawned: they are pickled, with all that they hold."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gan_problem import write_small_generator
from PIL import Image
from torch.utils.data import DataLoader

from datamodules.captures import is_capture
from datamodules.co3d import Co3DDataModule
from datamodules.ffhq_gan import FFHQGANDataModule
from datamodules.last_used import LastUsed
from datamodules.posed.back_from_target import BackFromTarget
from datamodules.posed.settings import PredictedViews, SceneCounts
from datamodules.posed.two_ends import TwoEnds
from datamodules.realestate10k import RealEstate10kDataModule
from datamodules.synthetic.clips import write_synthetic_clips
from datamodules.synthetic.co3d import write_synthetic_co3d
from datamodules.synthetic.rooms import write_synthetic_rooms
from datamodules.vimeo90k import Vimeo90KDataModule
from dfm_lightning.networks.stylegan2.sampling import GeneratorSamples
from dfm_lightning.types import named_tensors


def chunked_rooms(root: Path, workers: int = 0) -> RealEstate10kDataModule:
    write_synthetic_rooms(root, 2, 1, 8, 18, chunked=True)
    return _rooms(root, workers)


def rooms(root: Path, workers: int = 0) -> RealEstate10kDataModule:
    write_synthetic_rooms(root, 2, 1, 8, 18)
    return _rooms(root, workers)


def _rooms(root: Path, workers: int) -> RealEstate10kDataModule:
    return RealEstate10kDataModule(
        str(root),
        8,
        1,
        workers,
        TwoEnds(distance=(1, 3)),
        scenes=SceneCounts(val=1),
        prediction=PredictedViews(trajectory="interpolation", frames=3),
    )


def capture(root: Path, workers: int = 0) -> RealEstate10kDataModule:
    root.mkdir()
    frames = []
    for number in range(4):
        Image.new("RGB", (16, 12), (number * 40, 0, 0)).save(root / f"{number}.png")
        pose = torch.eye(4)
        pose[0, 3] = number
        frames.append({"file_path": f"{number}.png", "transform_matrix": pose.tolist()})
    (root / "transforms.json").write_text(json.dumps({"fl_x": 16, "w": 16, "h": 12, "k1": 0.01, "frames": frames}))
    views = TwoEnds(distance=(1, 2))
    return RealEstate10kDataModule(str(root), 8, 1, workers, views, prediction=PredictedViews(frames=3))


def toys(root: Path, workers: int = 0) -> Co3DDataModule:
    write_synthetic_co3d(root, "toy", 2, 1, 1, frames=8, height=24, width=24)
    views = BackFromTarget(distance=(1, 2))
    return Co3DDataModule(str(root), "toy", views=views, image_size=8, workers=workers)


def clips(root: Path, workers: int = 0) -> Vimeo90KDataModule:
    write_synthetic_clips(root, "septuplet", 4, 2, height=32, width=32)
    return Vimeo90KDataModule(str(root), val_clips=1, batch_size=1, workers=workers)


def faces(root: Path, workers: int = 0) -> FFHQGANDataModule:
    generator = GeneratorSamples(write_small_generator(root.with_suffix(".safetensors")))
    seeds = {f"{split}_seeds": (0, 4) for split in ("train", "val", "test", "predict")}
    return FFHQGANDataModule(generator, str(root), 8, (2, 4), **seeds, workers=workers)


MODULES = [chunked_rooms, rooms, capture, toys, clips, faces]


def loaders(data: Any) -> list[DataLoader]:
    """All data loaders of a module, each after a first look into its data."""
    found = []
    for stage in ("fit", "test", "predict"):
        data.setup(stage)
        names = {"fit": ["train", "val"]}.get(stage, [stage])
        if stage == "fit" and isinstance(data, RealEstate10kDataModule) and is_capture(data.root):
            continue  # for test and predict alone
        found += [getattr(data, f"{name}_dataloader")() for name in names]
    return found


@pytest.mark.parametrize("make", MODULES)
def test_every_data_set_pickles_after_it_was_used(make: Callable[..., Any], tmp_path: Path) -> None:
    """What is open stays in its process: a copy reads anew, and gives the same."""
    data = make(tmp_path / "root")
    for loader in loaders(data):
        before = loader.dataset[0]
        for part in (loader.dataset, loader.collate_fn, loader.worker_init_fn):
            copy = pickle.loads(pickle.dumps(part))
            if part is loader.dataset:
                after = copy[0]
                for (name, one), (_, other) in zip(*(named_tensors(i, "") for i in (before, after)), strict=True):
                    assert torch.equal(one, other), name
    pickle.dumps(data)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_of_every_start_method_read_the_same(method: str, tmp_path: Path) -> None:
    """Chunks hold the most that does not travel: files mapped into memory."""
    data = chunked_rooms(tmp_path / "root", workers=1)
    loader = data.train_dataloader()
    here = [loader.dataset[number] for number in loader.sampler]
    loader.multiprocessing_context = method
    for expected, found in zip(here, loader, strict=True):
        assert [expected.key] == list(found.key)
        assert torch.equal(expected.target.observation, found.target.observation[0])
    assert data.replaced_draws == 0


def test_a_cache_remembers_the_last_and_travels_empty() -> None:
    calls.clear()
    cache = LastUsed(doubled, 2)
    assert [cache(number) for number in (1, 2, 1, 3, 1, 2)] == [2, 4, 2, 6, 2, 4]
    assert calls == [1, 2, 3, 2]
    assert pickle.loads(pickle.dumps(cache))(1) == 2
    assert calls == [1, 2, 3, 2, 1]


calls: list[int] = []


def doubled(number: int) -> int:
    calls.append(number)
    return 2 * number
