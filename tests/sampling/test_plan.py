"""What callbacks register with a model's plan counts while it is registered."""

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader

from dfm_lightning.callbacks import ScoreReport, TensorWriter
from dfm_lightning.errors import UserError
from dfm_lightning.sampling import Plan, Predictor, as_predictor


def test_a_draw_is_left_out_if_nobody_needs_it() -> None:
    plan = Plan()
    assert plan.pending("a", 3) == [0, 1, 2]
    first = plan.leave_out(lambda key, sample: sample < 2)
    second = plan.leave_out(lambda key, sample: key == "a" and sample > 0)
    assert plan.pending("a", 3) == [0, 2]
    assert plan.pending("b", 3) == [0, 1, 2]
    first()
    assert plan.pending("a", 3) == [0]
    second()
    second()  # once more changes nothing
    assert plan.pending("a", 3) == [0, 1, 2]


def test_all_listeners_are_told_until_they_withdraw() -> None:
    plan, one, two = Plan(), [], []
    withdraw = plan.follow(one.append)
    plan.follow(two.append)
    plan.worked(3)
    withdraw()
    plan.worked(4)
    assert (one, two) == ([3], [3, 4])


@pytest.mark.parametrize("command", ["test", "predict"])
def test_a_model_that_draws_nothing_is_refused_by_name(command: str, tmp_path: object) -> None:
    assert not isinstance(BoringModel(), Predictor)
    callback: Callback = (ScoreReport if command == "test" else TensorWriter)(str(tmp_path))
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    model = BoringModel()
    with pytest.raises(UserError, match=rf"{type(callback).__name__} .*BoringModel has no samples, plan"):
        getattr(trainer, command)(model, DataLoader([0]))


def test_who_has_everything_is_a_predictor() -> None:
    class Everything:
        samples, plan = 1, Plan()
        predictions = work = settings = print

    everything = Everything()
    assert as_predictor(everything, "a test") is everything
