"""Samples drawn in batches: as those drawn one by one, and the same whatever is pending."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ball_scenes import BallDenoiser, batch, renderer, request
from gan_problem import small_task, write_small_generator
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from dfm_lightning.callbacks import TensorWriter
from dfm_lightning.diffusion import DDIM
from dfm_lightning.errors import UserError
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.sampling import draw_groups, one_by_one
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Request, Views, as_request, named_tensors


def own(folder: Path) -> tuple[DiffusionWithForwardModel, Request]:
    return DiffusionWithForwardModel(BallDenoiser(), renderer(), sampler=DDIM(2)), as_request(batch(["a", "b"]))


def scenes(folder: Path) -> tuple[DiffusionWithForwardModel, Request]:
    model = InverseGraphics(BallDenoiser(), renderer(), sampler=DDIM(2, eta=0.5), autoregressive_steps=2)
    return model, request(["a", "b"], 4)


def codes(folder: Path) -> tuple[DiffusionWithForwardModel, Request]:
    torch.manual_seed(0)
    mask = torch.zeros(2, 1, 1, 16, 16)
    mask[..., 4:10, 4:10] = 1
    context = Views(torch.rand(2, 1, 3, 16, 16) * mask, mask)
    model = small_task(write_small_generator(folder / "small.safetensors"))
    return model, Request(context, torch.ones(2, 1, 1, 16, 16), ["a", "b"])


@pytest.mark.parametrize("problem", [own, scenes, codes])
def test_batches_give_what_single_draws_give(
    tmp_path: Path, problem: Callable[[Path], tuple[DiffusionWithForwardModel, Request]]
) -> None:
    model, asked = problem(tmp_path)
    model.eval().samples = 3
    alone = list(model.predictions(asked))
    # Of the second batch's two draws, one is not asked for.
    model.draw_batch = 2
    together = list(model.predictions(asked))
    assert [(p.key, p.sample) for p in together] == [(p.key, p.sample) for p in alone]
    assert len({p.sample for p in together}) == 3
    for one, two in zip(alone, together, strict=True):
        tensors, others = (dict(named_tensors(part._asdict(), "")) for part in (one, two))
        assert set(tensors) == set(others)
        for name, tensor in tensors.items():
            torch.testing.assert_close(others[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    assert not torch.equal(together[0].observation, together[1].observation)

    # What is pending changes no bit of a sample, nor does how many are asked for.
    withdraw = model.plan.leave_out(lambda key, sample: sample != 1)
    (pending,) = [p for p in model.predictions(asked) if p.key == "b"]
    same = next(p for p in together if (p.key, p.sample) == ("b", 1))
    assert torch.equal(pending.observation, same.observation)
    withdraw()
    model.samples = 4
    more = [p.observation for p in model.predictions(asked) if p.sample == 2]
    assert torch.equal(more[0], together[2].observation)


def test_groups_are_fixed() -> None:
    assert list(draw_groups([5, 0, 7], 3)) == [range(0, 3), range(3, 6), range(6, 9)]
    assert list(draw_groups([1, 2], 1)) == [range(1, 2), range(2, 3)]
    with pytest.raises(ValueError, match="draw_batch"):
        DiffusionWithForwardModel(BallDenoiser(), renderer(), draw_batch=0)


def test_signals_that_cannot_be_taken_apart_are_refused() -> None:
    class Curve:
        """No tree of tensors."""

    curve = Curve()
    assert one_by_one(curve, 1) == [curve]
    with pytest.raises(UserError, match=r"Curve.*draw_batch"):
        one_by_one(curve, 2)


def predict(folder: Path, draw_batch: int) -> DiffusionWithForwardModel:
    torch.manual_seed(0)
    model = DiffusionWithForwardModel(
        BallDenoiser(), renderer(), sampler=DDIM(2), samples=4, draw_batch=draw_batch
    )
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[TensorWriter(str(folder))],
    )  # fmt: skip
    trainer.predict(model, DataLoader([as_request(batch(["a"]))], batch_size=None), return_predictions=False)
    return model


def test_the_batch_is_recorded_and_saves_evaluations(tmp_path: Path) -> None:
    assert predict(tmp_path, 4).denoiser.calls == 2
    with pytest.raises(UserError, match="draw_batch: 4 → 2"):
        predict(tmp_path, 2)


@pytest.mark.parametrize("command", ["test", "predict", "validate"])
def test_weights_that_are_not_finite_are_refused_by_name(command: str) -> None:
    model: Any = DiffusionWithForwardModel(BallDenoiser(), renderer(), sampler=DDIM(2))
    model.denoiser.bias.data[1] = float("nan")
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    item = as_request(batch(["a"])) if command == "predict" else batch(["a"])
    with pytest.raises(UserError, match=r"'denoiser\.bias'"):
        getattr(trainer, command)(model, DataLoader([item], batch_size=None))
