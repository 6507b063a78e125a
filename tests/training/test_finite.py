"""A training whose numbers are no longer finite stops, and keeps what was good."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from small_training import averaging, load, saving, train
from torch import Tensor
from toy_problem import LinearDenoiser, Slope, Task

from dfm_lightning.errors import UserError
from dfm_lightning.module import LossTerm
from dfm_lightning.optimizers import AdamWithWarmup
from dfm_lightning.training.finite import StopAtNonFinite


class Spoilt(Task):
    """Its loss, or the gradient of it alone, is not finite from a step on.

    Args:
        step: the step, counted from 1.
        value: what spoils.
        gradient: whether the gradient alone is spoilt.
    """

    def __init__(self, step: int, value: float = float("nan"), gradient: bool = False) -> None:
        super().__init__(LinearDenoiser(), Slope(), optimizer=AdamWithWarmup(0.01, warmup_steps=0))
        self.step, self.value, self.gradient = step, value, gradient

    def regularisers(self, denoised: Any) -> dict[str, LossTerm]:
        late = self.trainer.training and self.trainer.global_step + 1 >= self.step
        factor = torch.tensor(self.value if late else 0.0)
        value = denoised.signal.square().sum()
        if self.gradient:  # 0, with the gradient of a root at 0 times `factor`
            value = (value * 0 * factor.nan_to_num()).sqrt() if late else value * 0
        else:
            value = value * factor
        return {"smooth": LossTerm(value, 1.0)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_training_stops_at_the_step_and_names_the_term(tmp_path: Path, value: float) -> None:
    saver = saving(tmp_path / "ck", 2, save_last=True, save_top_k=0)
    with pytest.raises(UserError, match=r"smooth.*step 4 .*ck/last\.ckpt") as caught:
        train(tmp_path, averaging(), saver, module=Spoilt(4, value), max_steps=9)
    assert "target" not in str(caught.value)
    content = load(tmp_path / "ck" / "last.ckpt")
    assert content["global_step"] == 2
    assert all(value.isfinite().all() for value in content["current_model_state"].values())


class Overflowing(WeightAveraging):
    """Averages that are no numbers from the second one on."""

    def __init__(self) -> None:
        super().__init__(avg_fn=lambda average, current, count: average + current * float("nan"))


def test_averages_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"average of the weights 'denoiser.*step 2"):
        train(tmp_path, Overflowing(), saving(tmp_path / "ck", 2), max_steps=4)
    assert not (tmp_path / "ck").exists()


class NoisyBuffer(Task):
    """Its buffer is no number after a step: a checkpoint with it could not be used."""

    def __init__(self) -> None:
        super().__init__(LinearDenoiser(), Slope(), optimizer=AdamWithWarmup(0.01, warmup_steps=0))
        self.register_buffer("mask", torch.tensor([float("-inf"), 0.0]))
        self.register_buffer("seen", torch.zeros(2))

    def on_train_batch_end(self, *step: Any) -> None:
        self.get_buffer("seen").fill_(float("nan"))


def test_a_buffer_that_is_no_number_is_never_saved_but_an_infinite_one_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="seen"):
        train(tmp_path, saving(tmp_path / "ck", 2), module=NoisyBuffer(), max_steps=4)
    assert not (tmp_path / "ck").exists()


@pytest.mark.parametrize("every", [1, 2, 100])
def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, every: int) -> None:
    # The third step makes the weights useless, though its loss is finite.
    saver = saving(tmp_path / "ck", every, save_last=True, save_top_k=0)
    with pytest.raises(UserError, match="denoiser"):
        train(tmp_path, averaging(), saver, module=Spoilt(3, gradient=True), max_steps=9)
    kept = {1: [2], 2: [2], 100: []}[every]
    assert [load(path)["global_step"] for path in (tmp_path / "ck").glob("*")] == kept


def test_the_last_step_of_all_is_looked_at(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"step 3 .*denoiser"):
        train(tmp_path, saving(tmp_path / "ck", 100), module=Spoilt(3, gradient=True), max_steps=3)
    assert not (tmp_path / "ck").exists()


@pytest.mark.parametrize("rate", [1e25, 1e38])
def test_a_rate_that_is_far_too_high(tmp_path: Path, rate: float) -> None:
    optimizer = AdamWithWarmup(learning_rate=rate, warmup_steps=2)
    with pytest.raises(UserError, match="learning_rate"):
        train(tmp_path, saving(tmp_path / "ck"), optimizer=optimizer, max_steps=9)
    for path in (tmp_path / "ck").glob("*.ckpt"):
        assert all(value.isfinite().all() for value in load(path)["state_dict"].values())


def test_what_is_kept_on_failure_is_the_last_good_step(tmp_path: Path) -> None:
    saver = saving(tmp_path / "ck", 100, save_on_exception=True)
    with pytest.raises(UserError):
        train(tmp_path, saver, module=Spoilt(4), max_steps=9)
    assert load(tmp_path / "ck" / "3.ckpt")["global_step"] == 3


# --- on a device, where nothing is looked at in each step ---------------------------------------------------


def test_the_first_step_is_named_though_looked_at_later(tmp_path: Path) -> None:
    trainer = train(tmp_path, max_steps=1)
    nan = float("nan")
    losses = [(1.0, 1.0), (nan, nan), (nan, 2.0), (1.0, nan)]
    guard = StopAtNonFinite()
    for step, (loss, term) in enumerate(losses, start=1):
        guard.note({"loss": torch.tensor(loss), "term": torch.tensor(term)}, step)
        if step == 1:
            guard.check(trainer, trainer.lightning_module)
    with pytest.raises(UserError, match=r"term\).*step 2 "):
        guard.check(trainer, trainer.lightning_module)


class AsOnADevice(Callback):
    """Hides from the guard that the loss is on a CPU."""

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it
        (guard,) = (c for c in callbacks if isinstance(c, StopAtNonFinite))

        def note(trainer: Trainer, pl_module: Any, loss: Tensor) -> None:
            guard.note({"loss": loss.detach(), **pl_module.training_terms}, trainer.global_step + 1)

        guard.on_before_backward = note


@pytest.mark.parametrize("options", [{}, {"log_every_n_steps": 5}], ids=["saved", "logged"])
def test_it_is_looked_at_before_saving_and_when_logging(tmp_path: Path, options: dict[str, Any]) -> None:
    saver = saving(tmp_path / "ck", 100 if options else 3)
    with pytest.raises(UserError, match=r"smooth.*step 2 "):
        train(tmp_path, AsOnADevice(), saver, module=Spoilt(2), max_steps=9, limit_val_batches=0, **options)
    assert not (tmp_path / "ck").exists()
