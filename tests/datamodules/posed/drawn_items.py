"""What the data modules of posed images give for a seed: the same today as when this was written.

`python drawn_items.py` writes drawn_items.safetensors anew; only for a change of the drawn data that is meant.
"""

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from posed_settings import made
from safetensors.torch import save_file
from small_roots import write_capture, write_photograph, write_toys, write_walks
from torch import Tensor

from datamodules.co3d import Co3DDataModule
from datamodules.posed.camera_moves import CameraMove
from datamodules.realestate10k import RealEstate10kDataModule
from dfm_lightning.types import named_tensors

STORED = Path(__file__).with_name("drawn_items.safetensors")
Items = dict[str, Tensor]


def toys(root: Path, **options: Any) -> Co3DDataModule:
    usual = {"image_size": 4, "batch_size": 2, "workers": 0, "views": {"contexts": 2, "distance": (1, 2)}}
    usual |= {"evaluation": {"novel": 2}, "prediction": {"frames": 7}}
    return made(Co3DDataModule, {"root": str(root), "category": "toy", **usual}, **options)


def walks(root: Path, **options: Any) -> RealEstate10kDataModule:
    usual = {"image_size": 4, "batch_size": 2, "workers": 0, "views": {"distance": (3, 6)}, "scenes": {"val": 2}}
    usual |= {"evaluation": {"novel": 2}, "prediction": {"frames": 7}}
    return made(RealEstate10kDataModule, {"root": str(root), **usual}, **options)


def drawn(folder: Path) -> Items:
    """Tensors of batches and requests by a name; keys are stored as the bytes of their text."""
    items: Items = {}
    for name, case in CASES.items():
        (folder / name).mkdir()
        for number, item in enumerate(case(folder / name)):
            if isinstance(item, Tensor):
                items[f"{name}.{number}"] = item
                continue
            tensors = {
                path: tensor for path, tensor in named_tensors(item, f"{name}.{number}") if "pixels" not in path
            }
            items |= {path: tensor.contiguous().clone() for path, tensor in tensors.items() if tensor.numel()}
            items[f"{name}.{number}.key"] = torch.tensor(list(json.dumps(list(item.key)).encode()))
    return items


def _toys_in_training(root: Path) -> Iterator[Any]:
    write_toys(root)
    yield from taken(toys(root), 3)
    views, training = {"novel_frames": "anywhere", "novel": 2}, {"scale_augmentation": 1.5, "draws_per_scene": 2}
    yield from taken(toys(root, views=views, training=training), 4)
    yield toys(root).mean_image()


def _toys_in_evaluation(root: Path) -> Iterator[Any]:
    write_toys(root)
    yield from toys(root, evaluation={"masks": True}).val_dataloader()
    yield from toys(root, evaluation={"masks": True}, target_scale=7.0).test_dataloader()
    for kind in ("circle", "dataset", "interpolation"):
        yield from toys(root, prediction={"trajectory": kind}).predict_dataloader()


def _toys_with_broken_frames(root: Path) -> Iterator[Any]:
    write_toys(root)
    for frame in range(10):
        (root / "toy" / "toy_0" / f"image{frame}.png").unlink()
        if frame % 3 == 0:
            (root / "toy" / "toy_1" / f"image{frame}.png").write_bytes(b"no picture")
    data = toys(root, training={"scale_augmentation": 1.2})
    yield from taken(data, 5)
    yield torch.tensor(data.replaced_draws)


def _walks_in_training(root: Path) -> Iterator[Any]:
    write_walks(root)
    yield from taken(walks(root), 3)
    yield from taken(walks(root, views={"contexts": 2, "novel": 2}), 3)
    yield walks(root).mean_image()


def _walks_in_evaluation(root: Path) -> Iterator[Any]:
    write_walks(root)
    yield from walks(root).val_dataloader()
    yield from walks(root, scenes={"test": 2}).test_dataloader()
    index = {"test2": {"context": [1, 8], "target": [3, 4, 6]}, "test0": {"context": [5, 2], "target": [9]}}
    (root / "index.json").write_text(json.dumps(index))
    indexed = walks(root, evaluation={"index": str(root / "index.json")}, views={"contexts": 2})
    yield from indexed.test_dataloader()
    for kind in ("dataset", "interpolation", "extrapolation", str(root / "train" / "train3.txt")):
        prediction = {"trajectory": kind, "scale": 1.5, "scenes": ["test2", "test1"]}
        data = walks(root, prediction=prediction)
        yield from data.predict_dataloader()


def _walks_with_broken_frames(root: Path) -> Iterator[Any]:
    write_walks(root)
    for frame in range(10):
        (root / "train" / "train0" / f"{frame * 1000}.png").write_bytes(b"no picture")
    for frame in (0, 2, 3, 7):
        (root / "train" / "train1" / f"{frame * 1000}.png").write_bytes(b"no picture")
    (root / "test" / "test0" / "0.png").write_bytes(b"no picture")
    data = walks(root, scenes={"val": 0})
    yield from taken(data, 4)
    yield torch.tensor(data.replaced_draws)
    yield from data.test_dataloader()


def _captures(root: Path) -> Iterator[Any]:
    write_capture(root / "capture")
    data = walks(root / "capture", scene_depth=2.0)
    yield from data.test_dataloader()
    yield from data.predict_dataloader()


def _photographs(root: Path) -> Iterator[Any]:
    image = str(write_photograph(root / "photograph.png"))
    spiral, orbit = ({"move": move} for move in (CameraMove("spiral", 0.4, 5), CameraMove("orbit", 1.0, 4)))
    yield from walks(root, image=image, prediction=spiral, field_of_view=50.0).predict_dataloader()
    yield from toys(root, image=image, prediction=orbit).predict_dataloader()


CASES: dict[str, Callable[[Path], Iterator[Any]]] = {
    "toys_in_training": _toys_in_training,
    "toys_in_evaluation": _toys_in_evaluation,
    "toys_with_broken_frames": _toys_with_broken_frames,
    "walks_in_training": _walks_in_training,
    "walks_in_evaluation": _walks_in_evaluation,
    "walks_with_broken_frames": _walks_with_broken_frames,
    "captures": _captures,
    "photographs": _photographs,
}


def taken(data: Any, count: int) -> list[Any]:
    """The first training batches, over as many epochs as it takes."""
    loader = data.train_dataloader()

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    return list(islice(endless(), count))


if __name__ == "__main__":
    os.environ["PL_GLOBAL_SEED"] = "0"
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        save_file(drawn(Path(name)), sys.argv[1] if len(sys.argv) > 1 else STORED)
