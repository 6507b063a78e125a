"""Images of folders and archives, and problems made of them."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.linear_images import FolderImages, LinearImagesDataModule, ZippedImages
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import LinearMeasurements, Matrices, OneOf, PatchMasks
from dfm_lightning.types import Batch, Request, named_tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("n01/a.png", "n01/b.png", "n02/c.png", "n02/d.png", "n03/e.PNG", "n03/f.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(path, format="PNG")
    (tmp_path / "images/n01/._a.png").write_bytes(b"no picture")
    return tmp_path / "images"


def module(source: object, **options: object) -> LinearImagesDataModule:
    settings = {"resolution": 16, "held_out": 2, "val_images": 1, "test_images": 2, "predict_images": 1}
    law = OneOf([PatchMasks(0.5), Matrices((2, 5))])
    return LinearImagesDataModule(LinearMeasurements(law, 0.1), source, **{**settings, "batch_size": 2, **options})


def test_pictures_of_a_folder_with_their_classes(folder: Path) -> None:
    source = FolderImages(str(folder))
    assert source.names == ["n01/a.png", "n01/b.png", "n02/c.png", "n02/d.png", "n03/e.PNG", "n03/f.png"]
    read = source.read(3, 16)
    assert (read.label, read.name, tuple(read.image.shape)) == (1, "n02_d", (3, 16, 16))
    assert read.image.min() >= -1
    assert read.image.max() <= 1
    with pytest.raises(UserError, match="nowhere"):
        FolderImages(str(folder / "nowhere"))


def test_an_archive_is_as_its_folder(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(folder.rglob("*")):
            opened.write(path, path.relative_to(folder))
    zipped, plain = ZippedImages(str(archive)), FolderImages(str(folder))
    assert len(zipped) == len(plain)
    for number in range(len(plain)):
        one, other = zipped.read(number, 16), plain.read(number, 16)
        assert (one.label, one.name) == (other.label, other.name)
        assert torch.equal(one.image, other.image)
    (tmp_path / "broken.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"broken\.zip"):
        ZippedImages(str(tmp_path / "broken.zip"))


def test_batches_are_problems_of_images_that_are_not_held_out(folder: Path) -> None:
    batches = list(module(FolderImages(str(folder))).train_dataloader())
    assert all(isinstance(batch, Batch) for batch in batches)
    assert {key for batch in batches for key in batch.key} == {"n02_c", "n02_d", "n03_e", "n03_f"}
    assert all(not batch.truth for batch in batches)
    again = list(module(FolderImages(str(folder))).train_dataloader())
    for one, other in zip(batches, again, strict=True):
        pairs = zip(named_tensors(one, ""), named_tensors(other, ""), strict=True)
        assert all(torch.equal(a[1], b[1]) for a, b in pairs)


def test_a_problem_of_evaluation_depends_on_its_name_and_the_seed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = list(module(FolderImages(str(folder))).test_dataloader())
    assert [batch.key for batch in batches] == [["n01_a"], ["n01_b"]]
    (folder / "n01/a.png").unlink()
    later = next(iter(module(FolderImages(str(folder))).test_dataloader()))
    assert torch.equal(later.context.observation, batches[1].context.observation)
    assert later.truth["image"].shape == (1, 3, 16, 16)
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    other = next(iter(module(FolderImages(str(folder))).test_dataloader()))
    assert other.context.observation.shape != later.context.observation.shape or not torch.equal(
        other.context.observation, later.context.observation
    )


def test_an_unreadable_picture_is_replaced_in_training_and_refused_in_a_test(folder: Path) -> None:
    (folder / "n03/f.png").write_bytes(b"no picture")
    data = module(FolderImages(str(folder)), batch_size=1)
    keys = [batch.key[0] for _ in range(3) for batch in data.train_dataloader()]
    assert "n03_f" not in keys
    assert data.replaced_draws > 0
    (folder / "n01/a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"n01/a\.png"):
        list(module(FolderImages(str(folder))).test_dataloader())


def test_a_picture_of_ones_own(folder: Path) -> None:
    data = module(None, image=str(folder / "n01/b.png"))
    (request,) = list(data.predict_dataloader())
    assert isinstance(request, Request)
    assert request.key == ["b"]
    with pytest.raises(UserError, match=r"data\.source"):
        data.train_dataloader()
    with pytest.raises(UserError, match="held_out"):
        module(FolderImages(str(folder)), held_out=6).train_dataloader()
