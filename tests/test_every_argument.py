"""Every argument of every class that can change a result is recorded by its name."""

import inspect
import typing
from pathlib import Path
from typing import Any

import pytest
import torch
from ball_scenes import BallDenoiser, request
from gan_problem import write_small_generator
from other_arguments import another, needed_with
from small_objects import flat_record, made, small_arguments, with_subclasses
from torch import Tensor

from dfm_lightning import denoisers, diffusion, forward_models, tasks
from dfm_lightning.diffusion import (
    DDIM,
    NoiseProcess,
    Sampler,
)
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.losses import PerceptualLoss
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.optimizers import AdamWithWarmup
from dfm_lightning.record import Recorded, differences
from dfm_lightning.sampling import PredictingModule
from dfm_lightning.tasks import (
    InverseGraphics,
    SceneObjective,
)


def is_ours(cls: type) -> bool:
    return cls.__module__.split(".")[0] == "dfm_lightning" and not inspect.isabstract(cls)


def ours(base: type) -> list[type]:
    return [cls for cls in dict.fromkeys(with_subclasses(base)) if is_ours(cls)]


def arguments() -> list[tuple[type, str]]:
    bases = (ForwardModel, SignalDenoiser, NoiseProcess, Sampler, DiffusionWithForwardModel, Recorded)
    classes = dict.fromkeys(
        cls for base in bases for cls in ours(base) if "dfm_lightning.tests" not in cls.__module__
    )
    return [
        (cls, name)
        for cls in classes
        if cls is not Recorded
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


@pytest.fixture
def _generators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_small_generator(tmp_path / "small.safetensors", seed=0)
    write_small_generator(tmp_path / "other.safetensors", seed=1)


@pytest.mark.usefixtures("_generators")
@pytest.mark.parametrize(("cls", "name"), arguments(), ids=lambda part: getattr(part, "__name__", part))
def test_a_change_of_any_argument_is_recorded_by_name_or_declared_without_effect(cls: type, name: str) -> None:
    parameter = inspect.signature(cls).parameters[name]
    small = {**small_arguments(cls), **needed_with(cls, name)}
    default = small.get(name, parameter.default)
    hints = typing.get_type_hints(cls.__init__)
    other = another(cls, name, hints.get(name), default)

    def build(**changed: Any) -> dict[str, Any]:
        torch.manual_seed(0)
        return flat_record(cls(**{key: made(value) for key, value in {**small, **changed}.items()}))

    changes = differences(build(), build(**{name: other}))
    left_out = set().union(*(vars(c).get("without_effect", ()) for c in cls.__mro__))
    if name in left_out:
        assert changes == []
    else:
        # What is left open may follow from the changed argument, and then has another value too.
        assert name in {change.split(":")[0].split(".")[1] for change in changes}


def test_the_packages_are_walked_through() -> None:
    walked = {cls for cls, _ in arguments()}
    for package in (denoisers, diffusion, forward_models, tasks):
        for value in vars(package).values():
            kinds = (ForwardModel, SignalDenoiser, NoiseProcess, Sampler, DiffusionWithForwardModel)
            if isinstance(value, type) and issubclass(value, kinds) and not inspect.isabstract(value):
                assert value in walked


@pytest.mark.parametrize("cls", [Recorded, *ours(Recorded)], ids=lambda cls: cls.__name__)
def test_what_is_declared_without_effect_is_an_argument(cls: type) -> None:
    bases = [base for base in cls.__mro__ if base is not object]
    known = set().union(*(inspect.signature(base.__init__).parameters for base in bases))
    assert set(vars(cls).get("without_effect", ())) <= known


# --- what is declared without effect has none -----------------------------------------------------------

RENDERING = {
    "jitter": False,
    "train_proposal": False,
    "patch_size": 2,
    "checkpointing": True,
    "memory_budget_mb": 0.01,
}
TRAINING = {
    "optimizer": AdamWithWarmup(1.0), "target_weight": 9.0, "novel_weight": 9.0, "context_dropout": 0.9,
    "objective": SceneObjective(9.0, PerceptualLoss(), 9.0, 9.0, 9.0, (0.1, 0.2), False, 9.0),
    "warm_start_steps": 100, "random_context_views": False, "samples": 2,
}  # fmt: skip


def first_prediction(rendering: dict[str, Any], options: dict[str, Any]) -> Tensor:
    torch.manual_seed(0)
    settings = {"near": 1.0, "far": 5.0, "coarse_samples": 8, "fine_samples": 8, **rendering}
    model = InverseGraphics(
        BallDenoiser(),
        VolumeRendering(**settings),
        sampler=DDIM(2),
        **{"samples": 1, "autoregressive_steps": 1, **options},
    )
    return next(model.eval().predictions(request(["a"], 3))).observation


def test_all_that_inverse_graphics_declares_is_without_effect() -> None:
    assert set(RENDERING) == VolumeRendering.without_effect
    declared = (InverseGraphics, DiffusionWithForwardModel, PredictingModule)
    # (The base's context_weight is none of inverse graphics' settings.)
    assert set(TRAINING) == frozenset().union(*(kind.without_effect for kind in declared)) - {"context_weight"}
    expected = first_prediction({}, {})
    for name, value in RENDERING.items():
        torch.testing.assert_close(first_prediction({name: value}, {}), expected, msg=name)
    for name, value in TRAINING.items():
        assert torch.equal(first_prediction({}, {name: value}), expected), name
