"""Batches, requests and models that cannot be used are refused, by name."""

from typing import Any

import pytest
import torch
from jaxtyping import Float
from lightning.pytorch import Trainer
from line_problem import POSITIONS, Line, LineDenoiser, Points, batch, module
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dfm_lightning.errors import UserError
from dfm_lightning.interfaces import (
    ForwardModel,
    check_batch,
    check_kind,
    check_observed,
    check_request,
)
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.types import Batch, Level, Request, Views, as_request

pytestmark = pytest.mark.usefixtures("seeded")


def without_views(views: Views) -> Views:
    return Views(views.observation[:, 0], views.params)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            batch()._replace(context=without_views(batch().context)),
            r"context.observation has shape \(4, 2, 1, 1\);",
        ),
        (batch()._replace(target=batch().novel), r"target\.observation has 3"),
        (
            batch()._replace(key=["a"]),
            r"context.observation has shape \(4, 2, 2, 1, 1\), but the batch has 1 key",
        ),
        (
            batch()._replace(novel=Views(batch().novel.observation, POSITIONS[:, 0])),
            r"novel.params has shape \(4,\); expected it to begin with 4 scenes and 3 views",
        ),
        (
            batch()._replace(novel=Views(batch().novel.observation, Line(POSITIONS[:, :3], POSITIONS))),
            r"novel.params.slope has shape \(4, 6\)",
        ),
        (
            batch()._replace(target=Views(batch().target.observation.double(), batch().target.params)),
            r"target.observation is float64; expected float32, images in \[-1, 1\]: convert it with \.float\(\)",
        ),
        (
            batch()._replace(context=Views(batch().context.observation.byte(), batch().context.params)),
            r"context.observation is uint8; expected float32",
        ),
    ],
)
def test_a_wrong_batch_is_named(wrong: Batch, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_batch(wrong)


def test_right_batches_and_requests_pass() -> None:
    for novel in (0, 3):
        check_kind(batch(novel), Batch)
        check_batch(batch(novel))
        check_kind(as_request(batch(novel)), Request)
        check_request(as_request(batch(novel)))


@pytest.mark.parametrize(
    ("wrong", "expected", "message"),
    [
        (batch()._asdict(), Batch, "a data loader of fit, validate or test must give a Batch, but gave a dict"),
        (batch(), Request, "predict_dataloader must give a Request, but gave a Batch"),
        (batch()._replace(key=torch.arange(4)), Batch, "the key of a scene is a string, .* it is a Tensor"),
    ],
)
def test_what_is_no_batch_is_refused(wrong: Any, expected: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_kind(wrong, expected)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_other_precisions_are_no_mistake(precision: Any) -> None:
    torch.manual_seed(0)
    loader = DataLoader([batch()], batch_size=None)
    trainer = Trainer(
        accelerator="cpu", max_steps=1, precision=precision, logger=False, enable_checkpointing=False
    )
    trainer.fit(module(), loader, loader)
    assert trainer.callback_metrics["val/loss"].isfinite()


def test_a_request_without_parameters_to_observe_under_is_named() -> None:
    with pytest.raises(UserError, match=r"params.*\(4, 0\)"):
        check_request(Request(batch().context, POSITIONS[:, :0], batch().key))


def test_an_observation_of_another_shape_is_named_and_not_broadcast() -> None:
    with pytest.raises(UserError, match=r"\(4, 4, 1, 1, 1\)"):
        check_observed(torch.zeros(4, 4, 1, 1, 1), torch.zeros(4, 4, 2, 1, 1))


def test_a_request_of_an_item_is_the_request_of_its_batch() -> None:
    item = Batch(*(Views(v.observation[0], v.params[0]) for v in batch()[:3]), key="a", truth={})
    assert torch.equal(as_request(item).params, as_request(batch()).params[0])


class Wrong(Points):
    """Observes in a way that cannot be learnt from."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def forward(self, signal: Line, params: Float[Tensor, "b v"]) -> Tensor:
        if self.fault == "no_grad":
            with torch.no_grad():
                return super().forward(signal, params)
        seen = super().forward(signal, params)
        if self.fault == "detached":
            return seen.detach()
        if self.fault == "integer":
            return seen.round().int()
        return seen / torch.zeros_like(seen)


class DetachedSignal(LineDenoiser):
    """Forgets its gradient."""

    def forward(self, noisy: Tensor, level: Level, conditioning: Tensor) -> Line:
        return Line(*(part.detach() for part in super().forward(noisy, level, conditioning)))


@pytest.mark.parametrize(
    ("denoiser", "forward_model", "said"),
    [
        (LineDenoiser, Wrong("detached"), "observation has no gradient"),
        (LineDenoiser, Wrong("no_grad"), "observation has no gradient"),
        (LineDenoiser, Wrong("integer"), "observations of int32"),
        (LineDenoiser, Wrong("nan"), "forward model.* not a number, though the signal is finite"),
        (DetachedSignal, Points(), "signal has no gradient"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_the_first_step(
    denoiser: type[LineDenoiser], forward_model: ForwardModel, said: str
) -> None:
    model = DiffusionWithForwardModel(denoiser(), forward_model)
    with pytest.raises(UserError, match=said):
        model.losses(batch())
    with torch.no_grad():  # as in validation, which needs no gradient
        if forward_model.__class__ is Points:
            model.losses(batch())


def test_a_signal_that_is_not_finite_is_the_denoisers_fault() -> None:
    model = module()
    with torch.no_grad():
        model.denoiser.weights[1] = float("nan")
    with pytest.raises(UserError, match=r"denoiser's signal .*signal.slope"):
        model.losses(batch())


def test_a_model_without_anything_to_train_is_refused() -> None:
    model = module()
    model.requires_grad_(False)
    with pytest.raises(UserError, match="requires_grad false"):
        model.configure_optimizers()
    model.losses(batch())  # which can be computed all the same
    model.denoiser = nn.Identity()
    with pytest.raises(UserError, match="it has none") as raised:
        model.configure_optimizers()
    assert "requires_grad" not in str(raised.value)


class SmallTargets(Points):
    """Knows that its targets have two channels, whatever the context has."""

    def target_size(self, context: Views) -> tuple[int, ...]:
        return (2, 1, 1)


def test_targets_of_another_size_than_would_be_sampled_are_refused_at_the_first_step() -> None:
    plain = batch()
    context = plain.context._replace(observation=plain.context.observation.repeat(1, 1, 3, 1, 1))
    other = plain._replace(context=context)
    with pytest.raises(UserError, match=r"target_size.*\(6, 1, 1\).*\(2, 1, 1\)"):
        module().losses(other)
    DiffusionWithForwardModel(LineDenoiser(), SmallTargets()).losses(other)
