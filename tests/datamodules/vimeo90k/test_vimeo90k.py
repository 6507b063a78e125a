"""Clips in the layout of Vimeo-90K: lists, frames in their roles, crops, what cannot be read, photographs."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from datamodules.vimeo90k import Vimeo90KDataModule
from datamodules.vimeo90k.datasets import read_frames
from datamodules.vimeo90k.layout import open_root
from datamodules.vimeo90k.sampling import PairChoice, draw_roles, fixed_roles
from datamodules.vimeo90k.verification import inspect_root, verify_root
from dfm_lightning.errors import UserError
from dfm_lightning.interfaces import check_batch, check_request
from dfm_lightning.types import Batch, Request


def module(root: Path | None, **settings: object) -> Vimeo90KDataModule:
    return Vimeo90KDataModule(None if root is None else str(root), **{"workers": 0, "val_clips": 2, **settings})


def batches(data: Vimeo90KDataModule, passes: int = 1) -> list[Batch]:
    loader = data.train_dataloader()
    return [batch for _ in range(passes) for batch in loader]


def stored(root: Path, name: str, number: int) -> torch.Tensor:
    """A frame as Pillow reads it, in [-1, 1]."""
    picture = np.array(Image.open(root / "sequences" / name / f"im{number}.png"), dtype=np.float32)
    return torch.from_numpy(picture).permute(2, 0, 1) / 127.5 - 1


# --- roles ------------------------------------------------------------------------------------------------


def test_drawn_roles_cover_all_that_is_allowed_and_nothing_else() -> None:
    torch.manual_seed(0)
    choice = PairChoice((2, 4), "both", 1)
    choice.check(7)
    drawn = [draw_roles(7, choice) for _ in range(2000)]
    pairs = {(roles.context, roles.target) for roles in drawn}
    assert pairs == {(a, b) for a in range(7) for b in range(7) if 2 <= abs(a - b) <= 4}
    for roles in drawn:
        (novel,) = roles.novel
        assert min(roles.context, roles.target) < novel < max(roles.context, roles.target)
        assert 0 < roles.times()[0] < 1
        assert roles.context + roles.times()[0] * (roles.target - roles.context) == pytest.approx(novel)
    for direction, sign in (("forward", 1), ("backward", -1)):
        one_way = [draw_roles(7, choice._replace(direction=direction)) for _ in range(50)]
        assert all((roles.target - roles.context) * sign > 0 for roles in one_way)


def test_fixed_roles() -> None:
    assert fixed_roles(7, PairChoice((1, 6), "both", 0)) == (0, 6, [])
    assert fixed_roles(7, PairChoice((3, 4), "backward", 2)) == (5, 1, [4, 2])
    assert fixed_roles(7, PairChoice((3, 3), "forward", 2)) == (1, 4, [2, 3])
    assert fixed_roles(3, PairChoice((1, 2), "forward", 0)) == (0, 2, [])


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (PairChoice((0, 2), "both", 0), "frame_distance"),
        (PairChoice((3, 2), "both", 0), "frame_distance"),
        (PairChoice((1, 7), "both", 0), "within 1 and 6"),
        (PairChoice((2, 4), "both", 2), "there are 1, not 2"),
    ],
)
def test_roles_that_cannot_be(choice: PairChoice, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choice.check(7)


# --- items ------------------------------------------------------------------------------------------------


def test_training_items_are_frames_of_one_clip_cropped_and_flipped_alike(clips_root: Path) -> None:
    data = module(clips_root, frame_distance=(2, 6), novel_frames=1, crop_size=(24, 32), batch_size=3)
    flipped = set()
    for batch in batches(data, passes=4):
        check_batch(batch)
        assert batch.truth == {}
        assert batch.context.observation.shape == (3, 1, 3, 24, 32)
        assert batch.target.params.time.tolist() == [[1.0]] * 3
        assert batch.context.params.time.tolist() == [[0.0]] * 3
        for row, name in enumerate(batch.key):
            frames = torch.stack([stored(clips_root, name, number + 1) for number in range(7)])
            found = [place(part.observation[row, 0], frames) for part in batch[:3]]
            (context, window), (target, same), (novel, also) = found
            assert window == same == also
            time = batch.novel.params.time[row, 0].item()
            assert context + time * (target - context) == pytest.approx(novel)
            flipped.add(window[2])
            for part in batch[:3]:
                assert torch.equal(part.params.image[row, 0], batch.context.observation[row, 0])
    assert flipped == {False, True}


def place(crop: torch.Tensor, frames: torch.Tensor) -> tuple[int, tuple[int, int, bool]]:
    """By search: the number of the frame that a crop is from, its top left corner, and whether it is mirrored."""
    for mirrored in (False, True):
        upright = crop.flip(-1) if mirrored else crop
        windows = frames.unfold(2, crop.shape[1], 1).unfold(3, crop.shape[2], 1)
        for top in range(windows.shape[2]):
            for left in range(windows.shape[3]):
                match = (windows[:, :, top, left] == upright).flatten(1).all(dim=1)
                if match.any():
                    return int(match.nonzero()[0]), (top, left, mirrored)
    raise AssertionError("the crop is in no frame")


def test_training_goes_on_where_it_was(clips_root: Path) -> None:
    whole = batches(module(clips_root, batch_size=2), passes=2)
    data = module(clips_root, batch_size=2)
    loader = data.train_dataloader()
    loader.load_state_dict({"batches": 4})
    resumed = list(loader)
    assert resumed[0].key == whole[4].key
    assert torch.equal(resumed[0].target.observation, whole[4].target.observation)


def test_evaluation_takes_the_middle_and_its_true_flow(clips_root: Path) -> None:
    (batch, *_) = module(clips_root, crop_size=(32, 32), direction="forward").test_dataloader()
    check_batch(batch)
    assert list(batch.key) == ["00001/0009"]
    assert torch.equal(batch.context.observation[0, 0], stored(clips_root, "00001/0009", 1)[:, 4:36, 8:40])
    assert torch.equal(batch.target.observation[0, 0], stored(clips_root, "00001/0009", 7)[:, 4:36, 8:40])
    assert batch.truth["flow"].shape == (1, 2, 32, 32)
    moving = batch.truth["shape"][0, 0] == 1
    # Moving pixels are where the two frames differ, or next to it.
    changed = (batch.context.observation - batch.target.observation)[0, 0].abs().sum(0) > 0.2
    assert (changed & moving).sum() > 0.3 * moving.sum()
    assert batch.truth["flow"][0][:, moving].norm(dim=0).min() > 1
    assert batch.truth["directions"][0].tolist() == [pytest.approx([1, 0]), pytest.approx([-1, 0], abs=1e-6)]


def test_the_true_flow_is_resized_with_the_frames(clips_root: Path) -> None:
    (small, *_) = module(clips_root, frame_size=(20, 48), direction="forward").test_dataloader()
    (large, *_) = module(clips_root, direction="forward").test_dataloader()
    assert small.target.observation.shape[-2:] == (20, 48)
    expected = torch.nn.functional.avg_pool2d(large.truth["flow"], (2, 1))
    expected[:, 1] /= 2
    # Apart from the shape's edge, of which a small pixel holds a part.
    same = torch.nn.functional.avg_pool2d(large.truth["shape"].float(), (2, 1)) == small.truth["shape"]
    assert (small.truth["flow"] - expected).abs()[same.expand(-1, 2, -1, -1)].max() < 0.15


def test_validation_clips_are_held_out_and_always_the_same(clips_root: Path) -> None:
    data = module(clips_root, val_clips=3)
    train, held_out = data.training_split()
    assert len(train) == 5
    assert len(held_out) == 3
    assert not {clip.name for clip in train} & {clip.name for clip in held_out}
    first, second = (list(data.val_dataloader()) for _ in range(2))
    assert torch.equal(first[0].target.observation, second[0].target.observation)
    with pytest.raises(UserError, match=r"8.*training clips"):
        module(clips_root, val_clips=8).training_split()


def test_requests_ask_for_the_end_and_the_way_there(clips_root: Path) -> None:
    requests = list(module(clips_root, predict_clips=2, predict_frames=4).predict_dataloader())
    assert [request.key for request in requests] == [("00001/0009",), ("00001/0010",)]
    for request in requests:
        assert isinstance(request, Request)
        check_request(request)
        assert request.params.time.tolist() == [[1.0, 0.0, 0.25, 0.5, 0.75]]
        assert torch.equal(request.params.image[0, 3], request.context.observation[0, 0])


def test_a_photograph_is_shown_upright(tmp_path: Path) -> None:
    pixels = np.zeros((60, 120, 3), np.uint8)
    pixels[:, :60] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise: what is stored on the left is up
    Image.fromarray(pixels).save(tmp_path / "mine.png", exif=exif)
    data = module(None, image=str(tmp_path / "mine.png"), crop_size=(32, 16))
    (request,) = data.predict_dataloader()
    image = request.context.observation[0, 0]
    assert image.shape == (3, 32, 16)
    assert image[:, :14].min() > 0.9
    assert image[:, 18:].max() < -0.9
    assert list(request.key) == ["mine"]
    with pytest.raises(UserError, match=r"crop_size or data\.frame_size"):
        module(None, image=str(tmp_path / "mine.png")).predict_dataloader()
    (tmp_path / "mine.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"mine\.png"):
        data.predict_dataloader()


# --- what is wrong ----------------------------------------------------------------------------------------


def test_unreadable_clips_are_replaced_and_counted_in_training(
    own_clips: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = module(own_clips, batch_size=2)
    broken = data.training_split()[0][:2]
    for clip in broken:
        for path in clip.frames:
            path.write_bytes(path.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        keys = {key for batch in batches(data, passes=2) for key in batch.key}
    assert not keys & {clip.name for clip in broken}
    assert data.replaced_draws > 0
    assert any(broken[0].name in record.getMessage() for record in caplog.records)
    with pytest.warns(UserWarning, match="training draws"):
        data.teardown("fit")


def test_an_unreadable_test_clip_is_named(own_clips: Path) -> None:
    (own_clips / "sequences" / "00001" / "0009" / "im1.png").unlink()
    with pytest.raises(UserError, match=r"0009/im1\.png"):
        list(module(own_clips).test_dataloader())
    with pytest.raises(UserError, match=r"0009/im1\.png"):
        list(module(own_clips).predict_dataloader())


def test_frames_smaller_than_the_crop_are_named(clips_root: Path) -> None:
    with pytest.raises(UserError, match=r"48×40.*64×40"):
        list(module(clips_root, crop_size=(40, 64)).test_dataloader())
    with pytest.raises(UserError, match=r"\[40, 64\].*\[40, 48\]"):
        module(clips_root, crop_size=(40, 64), frame_size=(40, 48))


def test_lists(own_clips: Path, tmp_path: Path) -> None:
    (own_clips / "sep_testlist.txt").write_text("00001/0010\n\n")  # the official one ends like this
    (batch,) = module(own_clips).test_dataloader()
    assert list(batch.key) == ["00001/0010"]
    for text, message in (("../../etc/x", "expected lines"), ("\n", "is empty")):
        (own_clips / "sep_testlist.txt").write_text(text)
        with pytest.raises(UserError, match=message):
            module(own_clips).test_dataloader()
    (own_clips / "sep_testlist.txt").unlink()
    with pytest.raises(UserError, match="testlist"):
        module(own_clips).test_dataloader()
    with pytest.raises(UserError, match=r"sep_trainlist\.txt.*tri_trainlist\.txt"):
        module(tmp_path).train_dataloader()
    with pytest.raises(UserError, match="nowhere"):
        module(tmp_path / "nowhere").train_dataloader()
    with pytest.raises(UserError, match=r"triplets.*septuplets"):
        module(own_clips, form="triplet").train_dataloader()
    with pytest.raises(UserError, match=r"data\.root"):
        module(None).train_dataloader()


def test_inspection_and_verification(own_clips: Path) -> None:
    text = str(inspect_root(own_clips))
    assert "septuplets, 7 frames each" in text
    assert "train: 8 clips" in text
    assert "48×40 pixels" in text
    assert "0° (50%), 180° (50%)" in text
    assert verify_root(own_clips) == []
    folder = own_clips / "sequences" / "00001"
    (folder / "0001" / "im3.png").unlink()
    (folder / "0002" / "im2.png").write_bytes(b"no picture")
    Image.new("RGB", (20, 20)).save(folder / "0003" / "im7.png")
    (own_clips / "truth" / "00001" / "0004.npz").unlink()
    with (own_clips / "sep_testlist.txt").open("a") as file:
        file.write("00009/0001\n")
    problems = verify_root(own_clips)
    assert {problem.where for problem in problems} == {*(f"00001/000{n}" for n in (1, 2, 3, 4)), "00009/0001"}
    assert any("im3.png: no such file" in problem.what for problem in problems)
    assert any("different sizes" in problem.what for problem in problems)


def test_both_forms_side_by_side(clips_root: Path, tmp_path: Path) -> None:
    (tmp_path / "vimeo_septuplet").symlink_to(clips_root)
    triplet = tmp_path / "vimeo_triplet" / "sequences" / "00001" / "0001"
    triplet.mkdir(parents=True)
    for number in (1, 2, 3):
        Image.new("RGB", (16, 8), (number * 60, 0, 0)).save(triplet / f"im{number}.png")
    (tmp_path / "vimeo_triplet" / "tri_testlist.txt").write_text("00001/0001\n\n")
    assert module(tmp_path).opened().form.name == "septuplet"
    (batch,) = module(tmp_path, form="triplet", frame_distance=(1, 2)).test_dataloader()
    assert batch.target.observation.shape == (1, 1, 3, 8, 16)
    assert batch.target.observation[0, 0, 0].mean().item() == pytest.approx(180 / 127.5 - 1, abs=1e-5)
    assert batch.truth == {}
    assert "triplets, 3 frames each" in str(inspect_root(tmp_path))
    assert [problem.where for problem in verify_root(tmp_path)] == ["tri_trainlist.txt"]


@pytest.mark.parametrize("spelt", [lambda t: t.encode("utf-8-sig"), lambda t: t.replace("\n", "\r\n").encode()])
def test_lists_as_other_systems_write_them(spelt: Callable[[str], bytes], own_clips: Path) -> None:
    before = {split: open_root(own_clips).clips(split) for split in ("train", "test")}
    for path in own_clips.glob("*list.txt"):
        path.write_bytes(spelt(path.read_text()))
    assert {split: open_root(own_clips).clips(split) for split in ("train", "test")} == before


def test_frames_stand_upright_and_show_no_hidden_colours(own_clips: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    clip = open_root(own_clips).clips("test")[0]
    for path in clip.frames:
        picture = Image.open(path).convert("RGBA")
        picture.putpixel((0, 0), (255, 0, 255, 0))
        picture.transpose(Image.Transpose.ROTATE_270).save(path, exif=exif)
    frames = read_frames(clip.frames, None)
    assert frames.shape[-2:] == (40, 48)
    assert (frames[:, :, 0, 0] == 1).all()


def test_frames_with_uppercase_endings(own_clips: Path) -> None:
    before = read_frames(open_root(own_clips).clips("test")[0].frames, None)
    for path in own_clips.rglob("im*.png"):
        path.rename(path.with_suffix(".PNG"))
    clip = open_root(own_clips).clips("test")[0]
    assert torch.equal(read_frames(clip.frames, None), before)
    assert verify_root(own_clips) == []
