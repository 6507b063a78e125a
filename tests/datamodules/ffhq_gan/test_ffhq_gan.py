"""Samples of a generator: the same from the cache and on the fly, resumable, and refused if they are others'."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gan_problem import write_small_generator
from lightning.pytorch import LightningModule, Trainer
from PIL import ExifTags, Image

from datamodules.ffhq_gan import FFHQGANDataModule, SampleCache
from datamodules.ffhq_gan.samples import box_mask, patch_mask
from datamodules.ffhq_gan.shards import SHARD
from dfm_lightning.cli.gan_samples import draw_gan_samples
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.images import Box
from dfm_lightning.networks.stylegan2.sampling import GeneratorSamples
from dfm_lightning.types import Batch, Request


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_small_generator(tmp_path_factory.mktemp("generator") / "generator.safetensors")


def module(generator: str, **options: object) -> FFHQGANDataModule:
    values: dict = {"resolution": 16, "patch_sides": (4, 8), "train_seeds": (0, 40), "val_seeds": (0, 2)}
    values |= {"test_seeds": (3, 7), "predict_seeds": (0, 2), "batch_size": 2, **options}
    return FFHQGANDataModule(GeneratorSamples(generator, 0.7), **values)


def test_batches(generator: str) -> None:
    data = module(generator)
    data.setup("fit")
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert isinstance(batch, Batch)
    mask = batch.context.params
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(batch.context.observation, batch.target.observation * mask)
    assert (batch.target.params == 1).all()
    assert batch.novel.observation.shape == (2, 0, 3, 16, 16)
    for one in mask[:, 0, 0]:
        rows, columns = one.any(dim=1).sum(), one.any(dim=0).sum()
        assert rows == columns == one.sum().sqrt()
        assert 4 <= rows <= 8
    assert set(batch.truth) == {"code"}


def test_patches_have_every_size_and_place() -> None:
    random = torch.Generator().manual_seed(0)
    masks = torch.stack([patch_mask(8, (2, 4), random)[0] for _ in range(3000)])
    sides = masks.sum(dim=(1, 2)).sqrt()
    assert set(sides.tolist()) == {2.0, 3.0, 4.0}
    # A third each; three standard errors of a share of 3000 draws are 0.026.
    for side in (2.0, 3.0, 4.0):
        assert (sides == side).float().mean().item() == pytest.approx(1 / 3, abs=0.026)
    mean = masks.mean(dim=0)
    torch.testing.assert_close(mean, mean.flip(0), atol=0.05, rtol=0)
    torch.testing.assert_close(mean, mean.T, atol=0.05, rtol=0)
    assert mean.min() > 0.02, "corners are seen as well"


def test_patches_of_evaluation_are_the_same_every_time_and_those_of_training_are_not(generator: str) -> None:
    data = module(generator)
    data.setup("fit")
    first, second = (torch.cat([item.mask for item in data.val_dataloader()]) for _ in range(2))
    assert torch.equal(first, second)
    samples = data.train_dataloader().dataset
    assert not torch.equal(samples[0].mask, samples[40].mask), "the second pass shows other patches"


def test_the_cache_holds_what_would_be_drawn(tmp_path: Path, generator: str) -> None:
    drawn, cached = module(generator), module(generator, cache=str(tmp_path / "cache"))
    for data in (drawn, cached):
        data.setup("test")
    pairs = zip(drawn.test_dataloader(), cached.test_dataloader(), strict=True)
    for batches in pairs:
        one, two = (data.on_after_batch_transfer(b, 0) for data, b in zip((drawn, cached), batches, strict=True))
        assert list(one.key) == list(two.key)
        torch.testing.assert_close(one.truth["code"], two.truth["code"])
        difference = (one.target.observation - two.target.observation).abs().max()
        assert difference <= 1 / 255 + 1e-6, "half a step of eight bits"
        assert torch.equal(one.context.params, two.context.params)


def test_an_interrupted_cache_goes_on_and_parts_share_the_work(tmp_path: Path, generator: str) -> None:
    folder = tmp_path / "cache"
    source = GeneratorSamples(generator, 0.7)
    cache = SampleCache(folder, source, 16)
    seeds = [range(10, 3 * SHARD + 1)]
    assert cache.missing(seeds) == [0, 1, 2, 3]
    assert cache.missing(seeds, 0, 2) == [0, 2]
    assert cache.missing(seeds, 1, 2) == [1, 3]
    cache.make(2, torch.device("cpu"))
    (folder / "images" / ".partial-1234-0000001.npy").touch()
    assert SampleCache(folder, source, 16).missing(seeds) == [0, 1, 3]
    files = {path: path.read_bytes() for path in folder.rglob("0000002.npy")}
    assert len(files) == 2
    draw_gan_samples(folder, generator, 0, 2 * SHARD, 0.7, 16, part=0, parts=2)
    draw_gan_samples(folder, generator, 0, 2 * SHARD, 0.7, 16, part=1, parts=2)
    assert cache.missing(seeds) == [3]
    assert {path: path.read_bytes() for path in folder.rglob("0000002.npy")} == files
    code, image = source.draw([SHARD + 5], torch.device("cpu"))
    torch.testing.assert_close(cache.shards[SHARD + 5].code, code[0])
    assert image.shape == (1, 3, 32, 32)


def test_a_cache_of_other_samples_is_refused(tmp_path: Path, generator: str) -> None:
    SampleCache(tmp_path / "cache", GeneratorSamples(generator, 0.7), 16)
    other = write_small_generator(tmp_path / "other.safetensors", seed=5)
    for source, resolution, what in (
        (GeneratorSamples(other, 0.7), 16, "generator"),
        (GeneratorSamples(generator, 0.5), 16, "truncation"),
        (GeneratorSamples(generator, 0.7), 8, "resolution"),
    ):
        with pytest.raises(UserError, match=what):
            SampleCache(tmp_path / "cache", source, resolution)
    (tmp_path / "cache" / "cache.json").write_text("{")
    with pytest.raises(UserError, match=r"cache\.json"):
        SampleCache(tmp_path / "cache", GeneratorSamples(generator, 0.7), 16)


def test_ones_own_picture_and_its_patch(tmp_path: Path, generator: str) -> None:
    # A picture 40 wide and 24 high: its central square begins at x = 8.
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[6:12, 20:26] = (255, 0, 0)
    path = tmp_path / "me.png"
    Image.fromarray(pixels).save(path)
    data = module(generator, image=str(path), box=(20, 6, 26, 12), resolution=12)
    data.setup("predict")
    (request,) = data.predict_dataloader()
    request = data.on_after_batch_transfer(request, 0)
    assert isinstance(request, Request)
    assert list(request.key) == ["me"]
    mask = request.context.params[0, 0, 0]
    expected = torch.zeros(12, 12)
    expected[3:6, 6:9] = 1
    assert torch.equal(mask, expected)
    seen = request.context.observation[0, 0]
    assert seen[0, 4, 7] > 0.9
    assert seen[1:, 4, 7].max() < -0.9
    assert not seen[:, mask == 0].any()
    assert (request.params == 1).all()


def test_wrong_pictures_and_boxes_end_in_one_line(tmp_path: Path, generator: str) -> None:
    with pytest.raises(UserError, match=r"image.*box"):
        module(generator, image="me.png")
    with pytest.raises(UserError, match="pixel"):
        box_mask(12, Box(0, 0, 7, 24), Box(8, 0, 32, 24))
    with pytest.raises(UserError, match="patch_sides"):
        module(generator, patch_sides=(4, 40))
    with pytest.raises(UserError, match="test_seeds"):
        module(generator, test_seeds=(4, 4))
    path = tmp_path / "text.png"
    path.write_text("no picture")
    data = module(generator, image=str(path), box=(0, 0, 5, 5))
    data.setup("predict")
    with pytest.raises(UserError, match=r"text\.png"):
        next(iter(data.predict_dataloader()))


def test_predicting_samples_hides_the_rest_of_the_image(generator: str) -> None:
    class Sees(LightningModule):
        def predict_step(self, batch: Request, index: int) -> Request:
            return batch

    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (request,) = trainer.predict(Sees(), datamodule=module(generator))
    assert list(request.key) == ["seed0000000", "seed0000001"]
    assert request.params.shape == (2, 1, 1, 16, 16)
    assert (request.context.observation * (1 - request.context.params) == 0).all()


def test_ones_own_picture_stands_upright(tmp_path: Path, generator: str) -> None:
    """The box counts in the picture as it is shown."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).save(tmp_path / "shown.png")
    Image.fromarray(np.rot90(pixels).copy()).save(tmp_path / "phone.png", exif=exif)
    requests = []
    for name in ("shown", "phone"):
        data = module(generator, image=str(tmp_path / f"{name}.png"), box=(20, 6, 26, 12), resolution=12)
        requests.append(next(iter(data.predict_dataloader())))
    assert torch.equal(requests[0].context.observation, requests[1].context.observation)
    assert torch.equal(requests[0].context.params, requests[1].context.params)


def damage_shape(path: Path) -> None:
    np.save(path, np.zeros((3, 4), np.uint8))


def damage_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, np.zeros(3))


@pytest.mark.parametrize("part", ["images", "codes"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no array"),
        damage_shape,
        damage_archive,
    ],
)
def test_damaged_samples(
    part: str,
    damage: Callable[[Path], object],
    tmp_path: Path,
    generator: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Made again at the start; while a training runs, others are taken; an evaluation says which file it is."""
    folder = tmp_path / "cache"
    source = GeneratorSamples(generator, 0.7)
    settings = {"cache": str(folder), "train_seeds": (SHARD - 1, SHARD + 1), "test_seeds": (0, 2), "batch_size": 1}
    for shard in (0, 1):
        write_shard(SampleCache(folder, source, 16), shard)
    file = folder / part / "0000000.npy"
    intact = file.read_bytes()
    data = module(generator, **settings, val_seeds=(SHARD, SHARD + 1))
    data.setup("fit")
    damage(file)
    loader = data.train_dataloader()
    seeds = {int(item.seed) for _ in range(4) for item in loader}
    assert seeds == {SHARD}
    assert data.replaced_draws > 0
    assert caplog.text.count("another sample is used instead") == 1
    data.cache = SampleCache(folder, source, 16)
    with pytest.raises(UserError, match=rf"{part}/0000000\.npy"):
        list(data.test_dataloader())
    assert data.cache.missing([range(2 * SHARD)]) == [0]
    assert f"{part}/0000000.npy" in caplog.text
    file.write_bytes(intact)
    assert data.cache.missing([range(2 * SHARD)]) == []


def write_shard(cache: SampleCache, shard: int) -> None:
    """Files as a shard's, of random numbers."""
    random = np.random.default_rng(shard)
    for path, values in (
        (cache.shards.images(shard), random.integers(0, 256, (SHARD, 3, 16, 16), dtype=np.uint8)),
        (cache.shards.codes(shard), random.normal(size=(SHARD, 4)).astype(np.float32)),
    ):
        path.parent.mkdir(exist_ok=True)
        np.save(path, values)


@pytest.mark.parametrize("content", ["[]", "5", "null", '"text"'])
def test_a_cache_file_of_something_else(content: str, tmp_path: Path, generator: str) -> None:
    (tmp_path / "cache.json").write_text(content)
    with pytest.raises(UserError, match=r"cache\.json"):
        SampleCache(tmp_path, GeneratorSamples(generator, 0.7), 16)
