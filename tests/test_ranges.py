"""No setting takes a number that can only fail or mislead later: every one of every constructor is tried."""

import inspect
import math
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gan_problem import write_small_generator
from lightning.pytorch import Callback, LightningDataModule
from small_objects import made, small_arguments, with_subclasses

from datamodules.co3d import Co3DDataModule, SequenceCounts
from datamodules.co3d.object_crops import ObjectCrop
from datamodules.ffhq_gan import FFHQGANDataModule
from datamodules.linear_images import LinearImagesDataModule
from datamodules.posed.camera_moves import CameraMove
from datamodules.posed.datamodule import PosedImagesDataModule
from datamodules.posed.photograph import Photograph
from datamodules.posed.settings import EvaluationViews, PredictedViews, SceneCounts, TrainingDraws
from datamodules.posed.view_choice import ViewChoice
from datamodules.realestate10k import RealEstate10kDataModule
from datamodules.vimeo90k import Vimeo90KDataModule
from dfm_lightning.cli.parts import import_parts
from dfm_lightning.denoisers import VolumeDenoiser
from dfm_lightning.diffusion import DDIM, NoiseProcess, Sampler, Spacing
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import LinearMeasurements, PatchMasks
from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.networks.image_encoder import ImageEncoder
from dfm_lightning.networks.stylegan2.sampling import GeneratorSamples
from dfm_lightning.optimizers import AdamWithWarmup
from dfm_lightning.ranges import check_above, check_ascending, check_at_least, check_below_one, check_within
from dfm_lightning.record import Recorded
from dfm_lightning.tasks import Distillation, MotionObjective, SceneObjective
from dfm_lightning.tuning import Tuning

BASES = (
    *(ForwardModel, SignalDenoiser, NoiseProcess, Sampler, Spacing, Recorded, DiffusionWithForwardModel),
    *(AdamWithWarmup, ImageEncoder, LightningDataModule, ViewChoice, Callback),
)
DATA: dict[type, dict[str, Any]] = {
    PosedImagesDataModule: {"reader": lambda: Photograph},
    Co3DDataModule: {"root": "data", "category": "apple"},
    RealEstate10kDataModule: {"root": "data"},
    Vimeo90KDataModule: {"root": "data"},
    FFHQGANDataModule: {"generator": lambda: GeneratorSamples("small.safetensors")},
    LinearImagesDataModule: {"measurements": lambda: LinearMeasurements(PatchMasks())},
}


def needed(cls: type) -> dict[str, Any]:
    """What an object of a class is made with, as functions where it must be made anew."""
    return DATA[cls] if cls in DATA else small_arguments(cls)


# Directions, sides that may be left or right, and conventions where a negative number means something.
ANY_NUMBER = {(CameraMove, "size"), (PredictedViews, "scale")}
ANY_SIGN = {"up", "largest_log_ratio", "least_log_ratio", "training_log_noise", "least_log_snr"}


def classes() -> list[type]:
    import_parts()
    found = dict.fromkeys(cls for base in BASES for cls in with_subclasses(base))
    return [
        *(
            cls
            for cls in found
            if cls.__module__.split(".")[0] in ("dfm_lightning", "datamodules")
            and not cls.__module__.startswith("dfm_lightning.cli")
            and not inspect.isabstract(cls)
        ),
        *(CameraMove, SequenceCounts, SceneCounts, TrainingDraws, EvaluationViews, PredictedViews),
        *(Distillation, MotionObjective, SceneObjective, Tuning, ObjectCrop),
    ]


def numbers_in(annotation: Any) -> set[type]:
    """The kinds of numbers that an argument's annotation allows, in lists and tuples too."""
    if annotation in (int, float):
        return {annotation}
    if typing.get_origin(annotation) in (
        typing.Union,
        types.UnionType,
        list,
        tuple,
        typing.get_origin(tuple[int]),
    ):
        return {kind for part in typing.get_args(annotation) for kind in numbers_in(part)}
    if typing.get_origin(annotation) is not None and "Sequence" in str(annotation):
        return {kind for part in typing.get_args(annotation) for kind in numbers_in(part)}
    return set()


def with_number(value: Any, annotation: Any, number: float) -> Any:
    """A value of an argument with a number in it replaced."""
    if isinstance(value, (list, tuple)):
        return type(value)([number, *value[1:]])
    options = typing.get_args(annotation) or (annotation,)
    for option in options:
        if typing.get_origin(option) is tuple:
            return (number,) * len(typing.get_args(option))
        if typing.get_origin(option) is list:
            return [number]
    if typing.get_origin(annotation) in (tuple, list):
        return tuple([number] * len(options)) if typing.get_origin(annotation) is tuple else [number]
    return number


def cases() -> Iterator[Any]:
    for cls in classes():
        hints = typing.get_type_hints(cls.__init__)
        for name, parameter in inspect.signature(cls).parameters.items():
            kinds = numbers_in(hints.get(name))
            given = needed(cls).get(name, parameter.default)
            wrong: list[float] = [math.nan, math.inf] if float in kinds else []
            if kinds and name not in ANY_SIGN and (cls, name) not in ANY_NUMBER:
                wrong.append(-1.0 if kinds == {float} else -1)
            for number in wrong:
                value = with_number(given, hints[name], number)
                yield pytest.param(cls, name, value, id=f"{cls.__name__}.{name}={number:g}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranges")
    write_small_generator(path / "small.safetensors")
    return path


@pytest.mark.parametrize(("cls", "name", "value"), list(cases()))
def test_a_constructor_refuses_the_number_by_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cls: type, name: str, value: Any
) -> None:
    monkeypatch.chdir(folder)
    arguments = {key: made(other) for key, other in needed(cls).items()}
    cls(**arguments)
    with pytest.raises((ValueError, UserError), match=rf"\b{name.split('_')[-1]}\b|\b{name}\b") as raised:
        cls(**{**arguments, name: value})
    assert "\n" not in str(raised.value)


def zeros() -> Iterator[Any]:
    for cls in classes():
        hints = typing.get_type_hints(cls.__init__)
        for name, parameter in inspect.signature(cls).parameters.items():
            if kinds := numbers_in(hints.get(name)):
                zero = 0.0 if kinds == {float} else 0
                value = with_number(needed(cls).get(name, parameter.default), hints[name], zero)
                yield pytest.param(cls, name, value, id=f"{cls.__name__}.{name}")


@pytest.mark.parametrize(("cls", "name", "value"), list(zeros()))
def test_a_zero_is_taken_or_refused_by_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cls: type, name: str, value: Any
) -> None:
    monkeypatch.chdir(folder)
    arguments = {key: made(other) for key, other in needed(cls).items()}
    said = name
    try:
        cls(**{**arguments, name: value})
    except (ValueError, UserError) as refused:
        said = str(refused)
    assert name in said


def test_every_class_has_its_numbers_tried() -> None:
    tried = {case.values[0] for case in cases()}
    assert len(tried) > 30
    assert {AdamWithWarmup, CameraMove, DiffusionWithForwardModel, ImageEncoder, VolumeDenoiser} <= tried


def test_ranges_include_their_ends_and_no_more() -> None:
    check_at_least(1, a=1, b=None, c=[1, 2.5])
    check_within(0, 1, a=0, b=1.0)
    check_ascending(1, a=(1, 1), b=None)
    check_below_one(a=0.0)
    for check, value in ((check_above, 0), (check_at_least, -1e-9)):
        with pytest.raises(ValueError, match="setting"):
            check(0, setting=value)
    with pytest.raises(ValueError, match="setting"):
        check_within(0, 1, setting=(0.5, 1.01))
    with pytest.raises(ValueError, match="setting"):
        check_below_one(setting=1)
    with pytest.raises(ValueError, match=r"setting.*\[3, 2\]"):
        check_ascending(1, setting=(3, 2))


@pytest.mark.parametrize("steps", [1001, 5000])
def test_more_steps_than_levels_are_refused_at_once(steps: int) -> None:
    arguments = {key: made(other) for key, other in needed(DiffusionWithForwardModel).items()}
    with pytest.raises(ValueError, match=rf"\b{steps}\b.*\b1000\b"):
        DiffusionWithForwardModel(**arguments, sampler=DDIM(steps=steps))
