"""What results are recorded to be made with: every argument that can change them, whoever wrote the class."""

import copy
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
from ball_scenes import BallDenoiser, renderer, request
from gan_problem import write_small_generator
from torch import Tensor, nn

from datamodules.synthetic.face_attributes import FaceAttributes
from dfm_lightning import denoisers, diffusion, forward_models, tasks
from dfm_lightning.callbacks import (
    CodeReport,
    CodeWriter,
    LinearWriter,
    MotionReport,
    MotionWriter,
    SceneReport,
    SceneWriter,
    ScoreReport,
    TensorWriter,
)
from dfm_lightning.callbacks.made_with import differences
from dfm_lightning.denoisers import (
    DiTDenoiser,
    ImageToMotion,
    MLPDenoiser,
    OperatorDenoiser,
    PatchToCode,
    PixelNeRFDenoiser,
    UNetDenoiser,
    VolumeDenoiser,
)
from dfm_lightning.diffusion import (
    DDIM,
    ContextGuidance,
    CosineProcess,
    DCSolver,
    DPMSolver,
    DPMSolverSDE,
    GivenLevels,
    Karras,
    LogSNRCosine,
    MinorityScore,
    NoiseProcess,
    PerturbedAttention,
    Sampler,
    Spacing,
)
from dfm_lightning.diffusion.reward_guidance import SVDD, NearColour, TreeSearch
from dfm_lightning.diffusion.zero_shot import DAPS, DPS, REDDiff
from dfm_lightning.forward_models import ImageGeneration, ImageWarping, VolumeRendering
from dfm_lightning.forward_models.linear import LinearMeasurements
from dfm_lightning.forward_models.linear.laws import (
    Downsamplings,
    GaussianBlurs,
    Matrices,
    OneOf,
    PatchMasks,
    StridedMotionBlurs,
)
from dfm_lightning.geometry.scene_grids import ObjectCube, ViewFrustum
from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.losses import PerceptualLoss
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.networks.epipolar import (
    DepthRange,
    EpipolarAggregation,
    EpipolarTransformer,
    ResNetPyramid,
)
from dfm_lightning.networks.grid_encoding import GridEncoding
from dfm_lightning.networks.grid_field import GridField
from dfm_lightning.networks.image_encoder import ImageEncoder
from dfm_lightning.networks.latent_codec import SmallCodec, StableDiffusionCodec
from dfm_lightning.networks.latent_unet import LatentUNet
from dfm_lightning.optimizers import AdamWithWarmup
from dfm_lightning.record import CLASS, Recorded, describe, flat
from dfm_lightning.sampling import PredictingModule
from dfm_lightning.tasks import (
    DeterministicInverseGraphics,
    Distillation,
    DistilledScenes,
    EpipolarViews,
    GANInversion,
    InverseGraphics,
    LatentViews,
    LinearInverseProblem,
    MotionObjective,
    MotionPrediction,
    SceneObjective,
)

# --- every argument of every class of the package ---------------------------------------------------------------


def encoder(**options: Any) -> ImageEncoder:
    return ImageEncoder(**{"width": 16, "depth": 1, "heads": 2, "feature_channels": 4, **options})


def estimate_renderer(**options: Any) -> VolumeRendering:
    return VolumeRendering(**{"near": 1.0, "far": 5.0, "fine_samples": 0, **options})


SMALL_OPERATOR: dict[str, Any] = {
    "depths": (1,), "widths": (24,), "windows": (0,), "joint": (True,), "mapping_width": 16, "head_width": 8,
}  # fmt: skip


SMALL_LATENT: dict[str, Any] = {
    "transformer": lambda: EpipolarTransformer(ResNetPyramid(1), 8, 1, depths=4),
    "unet": lambda: LatentUNet(8, 4, 8, (1,), 1, (False,), 2, 4),
    "codec": lambda: SmallCodec(width=4),
}


# Arguments that a small object of each class is made with; values that an argument may have besides.
SMALL: dict[type, dict[str, Any]] = {
    UNetDenoiser: {"signal_shape": [1, 4, 4], "widths": [8, 8], "level_width": 16},
    DiTDenoiser: {"signal_shape": [1, 4, 4], "width": 16, "depth": 1, "heads": 2, "patch": 2},
    MLPDenoiser: {"inputs": 4, "signal_shape": [2], "width": 8, "depth": 1},
    ImageToMotion: {"width": 16, "depth": 1, "heads": 2},
    PatchToCode: {"code_width": 6, "width": 16, "depth": 1, "heads": 2},
    PixelNeRFDenoiser: {
        "encoder": encoder,
        "estimate_renderer": estimate_renderer,
        "mlp_width": 8,
        "mlp_blocks": 3,
        "mlp_blocks_per_view": 1,
    },
    ImageEncoder: {"width": 16, "depth": 1, "heads": 2, "feature_channels": 4},
    VolumeRendering: {"near": 1.0, "far": 5.0},
    ImageWarping: {},
    ImageGeneration: {"generator": "small.safetensors"},
    VolumeDenoiser: {
        "grid": lambda: ObjectCube(4.0, 2.0),
        "resolution": 8,
        "image_widths": [8, 8],
        "volume_widths": [8, 8],
        "condition_width": 16,
    },
    ObjectCube: {"distance": 4.0, "half": 2.0},
    ViewFrustum: {"near": 1.0, "far": 5.0},
    NearColour: {"colour": (0.1, 0.2, 0.3)},
    SVDD: {"reward": lambda: NearColour((0.1, 0.2, 0.3))},
    TreeSearch: {"reward": lambda: NearColour((0.1, 0.2, 0.3))},
    GivenLevels: {"levels": [900, 400]},
    OperatorDenoiser: SMALL_OPERATOR,
    LinearInverseProblem: {"denoiser": lambda: OperatorDenoiser(**SMALL_OPERATOR, directions=2)},
    OneOf: {"laws": lambda: [PatchMasks()]},
    LinearMeasurements: {"law": PatchMasks},
    LinearWriter: {"output": "predictions"},
    DiffusionWithForwardModel: {"denoiser": BallDenoiser, "forward_model": renderer},
    InverseGraphics: {"denoiser": BallDenoiser, "forward_model": renderer},
    DeterministicInverseGraphics: {"denoiser": BallDenoiser, "forward_model": renderer},
    MotionPrediction: {
        "denoiser": lambda: ImageToMotion(width=16, depth=1, heads=2),
        "forward_model": ImageWarping,
    },
    GANInversion: {
        "denoiser": lambda: PatchToCode(code_width=6, width=16, depth=1, heads=2),
        "forward_model": lambda: ImageGeneration("small.safetensors"),
    },
    ResNetPyramid: {"levels": 1},
    EpipolarAggregation: {"feature_channels": 3, "width": 8, "layers": 1, "depths": 4},
    EpipolarTransformer: {"pyramid": lambda: ResNetPyramid(1), "width": 8, "layers": 1, "depths": 4},
    LatentUNet: {
        "condition_channels": 3,
        "width": 8,
        "multipliers": (1, 2),
        "attention": (False, True),
        "heads": 2,
        "head_width": 4,
    },
    StableDiffusionCodec: {"widths": (32, 32), "layers": 1},
    SmallCodec: {"width": 4},
    EpipolarViews: {"transformer": lambda: EpipolarTransformer(ResNetPyramid(1), 8, 1, depths=4)},
    LatentViews: {**SMALL_LATENT},
    DistilledScenes: {**SMALL_LATENT, "field": lambda: GridField(GridEncoding(2, 2, 2, 8, 5), width=8)},
    GridEncoding: {"levels": 2, "base": 2, "resolution": 8, "log2_table": 5},
    GridField: {"grid": lambda: GridEncoding(2, 2, 2, 8, 5), "width": 8},
    TensorWriter: {"output": "predictions"},
    CodeWriter: {"output": "predictions"},
    ScoreReport: {"output": "test"},
    SceneWriter: {"output": "predictions"},
    MotionWriter: {"output": "predictions"},
    SceneReport: {"output": "test"},
    CodeReport: {"output": "test"},
    MotionReport: {"output": "test"},
}
OTHERS: dict[str, Any] = {
    "signal_shape": {"flow": [2]},
    "width": 32,
    "encoder": lambda: encoder(depth=2),
    "estimate_renderer": lambda: estimate_renderer(near=0.5),
    "denoiser": lambda: BallDenoiser().requires_grad_(False),
    "background": (1.0, 1.0, 1.0),
    "memory_budget_mb": 1.0,
    "generator": "other.safetensors",
    "process": lambda: CosineProcess(999),
    "sampler": lambda: DDIM(steps=3),
    "context_guidance": ContextGuidance,
    "perturbed_attention": PerturbedAttention,
    "minority": MinorityScore,
    "optimizer": AdamWithWarmup,
    "objective": lambda: SceneObjective(fill_depth=False),
    "position_grid": 2,
    "lpips_weights": "lpips.pth",
    "inception_weights": "inception.pth",
    "attributes": FaceAttributes,
    "output": "elsewhere",
    "temperature": 0.5,
    "eta": 0.5,
    "threshold_quantile": 0.9,
    "grid": lambda: ObjectCube(4.0, 1.0),
    "image_widths": [8, 16],
    "volume_widths": [8, 16],
    "target_dropout": 0.2,
    "inner": 0.5,
    "up": (0.0, 1.0, 0.0),
    "training_log_noise": (0.0, 1.0),
    "order": 3,
    "momentum": 0.5,
}
OTHERS_OF: dict[tuple[type, str], Any] = {
    (ContextGuidance, "rate"): 0.5,
    (PerturbedAttention, "blocks"): [0],
    (SceneWriter, "export"): ["mesh"],
    (SceneWriter, "export_resolution"): 64,
    (UNetDenoiser, "signal_shape"): [1, 8, 8],
    (UNetDenoiser, "widths"): [8, 16],
    (DiTDenoiser, "signal_shape"): [1, 8, 8],
    (DiTDenoiser, "patch"): 4,
    (DiTDenoiser, "heads"): 4,
    (MotionPrediction, "objective"): lambda: MotionObjective(hole_weight=0.5),
    (DiffusionWithForwardModel, "forward_model"): lambda: VolumeRendering(1.0, 6.0),
    (InverseGraphics, "forward_model"): lambda: VolumeRendering(1.0, 6.0),
    (DeterministicInverseGraphics, "forward_model"): lambda: VolumeRendering(1.0, 6.0),
    (MotionPrediction, "forward_model"): lambda: ImageWarping("blank"),
    (GANInversion, "forward_model"): lambda: ImageGeneration("other.safetensors"),
    (DiffusionWithForwardModel, "denoiser"): lambda: MLPDenoiser(4, [2]),
    (InverseGraphics, "denoiser"): lambda: MLPDenoiser(4, [2]),
    (DeterministicInverseGraphics, "denoiser"): lambda: MLPDenoiser(4, [2]),
    (MotionPrediction, "denoiser"): lambda: ImageToMotion(width=16, depth=1, heads=1),
    (GANInversion, "denoiser"): lambda: PatchToCode(code_width=6, layers=8, width=16, depth=1, heads=2),
    (PatchToCode, "patch"): 2,
    (GivenLevels, "levels"): [900, 300],
    (NearColour, "colour"): (0.3, 0.2, 0.1),
    (SVDD, "reward"): lambda: NearColour((0.3, 0.2, 0.1)),
    (TreeSearch, "reward"): lambda: NearColour((0.3, 0.2, 0.1)),
    (DCSolver, "orders"): [1] * 48,
    (DCSolver, "compensation"): [0.9] * 48,
    (DPMSolverSDE, "second_order"): "integral",
    (OperatorDenoiser, "depths"): (2,),
    (OperatorDenoiser, "dropout"): 0.5,
    (OperatorDenoiser, "widths"): (48,),
    (OperatorDenoiser, "windows"): (3,),
    (OperatorDenoiser, "joint"): (False,),
    (OperatorDenoiser, "head_width"): 24,
    (OperatorDenoiser, "patch"): 1,
    (LinearInverseProblem, "denoiser"): lambda: OperatorDenoiser(**{**SMALL_OPERATOR, "depths": (2,)}),
    (LinearInverseProblem, "solver"): DPS,
    (StridedMotionBlurs, "strides"): (2, 4),
    (Matrices, "rows"): (2, 64),
    (GaussianBlurs, "deviations"): (0.5, 2.0),
    (Downsamplings, "factors"): (2, 4),
    (OneOf, "laws"): lambda: [PatchMasks(0.2)],
    (LinearMeasurements, "law"): lambda: PatchMasks(0.2),
    (LinearMeasurements, "noise"): 0.3,
    (LinearMeasurements, "target_law"): lambda: PatchMasks(0.2),
    (ResNetPyramid, "levels"): 2,
    (ResNetPyramid, "weights"): "resnet.pth",
    (EpipolarTransformer, "pyramid"): lambda: ResNetPyramid(2),
    (EpipolarTransformer, "depth_range"): lambda: DepthRange(4.0),
    (LatentUNet, "multipliers"): (1, 3),
    (LatentUNet, "attention"): (True, True),
    (GridEncoding, "log2_table"): 6,
    (GridField, "grid"): lambda: GridEncoding(2, 2, 2, 8, 6),
    (LogSNRCosine, "last_training_time"): 0.5,
    (StableDiffusionCodec, "widths"): (32, 64),
    (EpipolarViews, "transformer"): lambda: EpipolarTransformer(ResNetPyramid(1), 16, 1, depths=4),
    (LatentViews, "transformer"): lambda: EpipolarTransformer(ResNetPyramid(1), 8, 2, depths=4),
    (LatentViews, "unet"): lambda: LatentUNet(8, 4, 8, (1,), 2, (False,), 2, 4),
    (LatentViews, "codec"): lambda: SmallCodec(width=8),
    (LatentViews, "process"): lambda: LogSNRCosine(least_log_snr=-20.0),
    (LatentViews, "condition_dropout"): 0.5,
    (DistilledScenes, "field"): lambda: GridField(GridEncoding(2, 2, 2, 8, 5), width=16),
    (DistilledScenes, "renderer"): lambda: VolumeRendering(0.2, 50.0),
    (DistilledScenes, "distillation"): lambda: Distillation(jitter=0.1),
    (DistilledScenes, "lpips_weights"): "vgg.pth",
    (DPS, "steps"): 7,
    (REDDiff, "steps"): 7,
    (DAPS, "noises"): (50.0, 0.1),
}
# Arguments without which another one is refused.
TOGETHER: dict[tuple[type, str], dict[str, Any]] = {
    (DPMSolver, "full_curvature"): {"order": 3},
    **{
        (task, "perturbed_attention"): {"denoiser": lambda: ImageToMotion(width=16, depth=1, heads=2)}
        for task in (DiffusionWithForwardModel, InverseGraphics, DeterministicInverseGraphics)
    },
    (DepthRange, "near"): {"near": 0.5, "far": 9.0},
    (DepthRange, "far"): {"near": 0.5, "far": 9.0},
}


def is_ours(cls: type) -> bool:
    return cls.__module__.split(".")[0] == "dfm_lightning" and not inspect.isabstract(cls)


def with_subclasses(base: type) -> Iterator[type]:
    yield base
    for child in base.__subclasses__():
        yield from with_subclasses(child)


def ours(base: type) -> list[type]:
    return [cls for cls in dict.fromkeys(with_subclasses(base)) if is_ours(cls)]


def another(cls: type, name: str, annotation: Any, default: Any) -> Any:
    """A value that an argument does not have by default."""
    if (cls, name) in OTHERS_OF:
        return OTHERS_OF[cls, name]
    if annotation == Spacing | None:
        return lambda: Karras(rho=3.0)
    if name in OTHERS and OTHERS[name] != default:
        return OTHERS[name]
    options = typing.get_args(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next(option for option in options if option is not type(None))
        options = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return next(option for option in options if option != default)
    if annotation is bool:
        return not default
    assert annotation in (int, float), f"give {cls.__name__}.{name} another value in OTHERS"
    return default * 2 if default else annotation(1)


def made(value: Any) -> Any:
    return value() if inspect.isroutine(value) or isinstance(value, type) else value


def flat_record(thing: Recorded) -> dict[str, Any]:
    return flat({"it": thing.record()})


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
    small = {**SMALL.get(cls, {}), **TOGETHER.get((cls, name), {})}
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
    how = {"near": 1.0, "far": 5.0, "coarse_samples": 8, "fine_samples": 8, **rendering}
    model = InverseGraphics(
        BallDenoiser(),
        VolumeRendering(**how),
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


# --- classes of a user's own ------------------------------------------------------------------------------


class Blur(nn.Module):
    """A part of a foreign class, which keeps its argument as a table that no checkpoint holds."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.exp(-torch.arange(3) / sigma), persistent=False)
        self.linear = nn.Linear(1, 1)


class Curve:
    """A part that is no network, and keeps its argument in a private place."""

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma


class Table:
    """A part that keeps what it makes of its argument."""

    def __init__(self, size: int) -> None:
        self.values = list(range(size))


class Forgetful(ForwardModel):
    """Stores no argument under its name."""

    def __init__(self, gain: float, *, blur: Any = None, curve: Any = None, **more: Any) -> None:
        super().__init__()
        self.table = torch.full((2,), gain)
        self.filter = blur
        self.function = curve
        self.mode = "always the same"
        self.activation = lambda x: x

    def forward(self, signal: Any, params: Any) -> Any:
        raise NotImplementedError


class Moded(Forgetful):
    """Has an attribute of another kind with its argument's name, and a method."""

    def __init__(self, mode: int, guide: str, *others: Any) -> None:
        super().__init__(*others)
        self._both = (mode, guide)

    def guide(self) -> None:
        """Not the argument."""


class Positional(DiffusionWithForwardModel):
    without_effect = frozenset({"decay_weight"})

    def __init__(self, *others: Any, decay_weight: float = 0.1, scale: float = 1.0, **more: Any) -> None:
        super().__init__(*others, **more)


@dataclasses.dataclass
class Given(Spacing):
    """Has a constructor that nobody has written."""

    first: int = 20
    last: int = 2

    def levels(self, *_: Any) -> Any:
        raise NotImplementedError


CHANGES = {
    "gain": (Forgetful(1.0), Forgetful(2.0)),
    "blur": (Forgetful(1.0, blur=Blur(1.0)), Forgetful(1.0, blur=Blur(2.0))),
    "curve": (Forgetful(1.0, curve=Curve(1.0)), Forgetful(1.0, curve=Curve(2.0))),
    "curve.values": (Forgetful(1.0, curve=Table(2)), Forgetful(1.0, curve=Table(3))),
    "curve.args": (
        Forgetful(1.0, curve=functools.partial(max, 1)),
        Forgetful(1.0, curve=functools.partial(max, 2)),
    ),
    "curves": (Forgetful(1.0, curves=[Curve(1.0), Curve(1.0)]), Forgetful(1.0, curves=[Curve(1.0), Curve(2.0)])),
    "tensor": (Forgetful(1.0, tensor=torch.ones(2)), Forgetful(1.0, tensor=torch.zeros(2))),
    "activation": (Forgetful(1.0, activation="relu"), Forgetful(1.0, activation="gelu")),
    "mode": (Moded(1, "a", 1.0), Moded(2, "a", 1.0)),
    "guide": (Moded(1, "a", 1.0), Moded(1, "b", 1.0)),
    "base's gain": (Moded(1, "a", 1.0), Moded(1, "a", 2.0)),
    "last": (Given(), Given(last=1)),
    "limit": (Forgetful(1.0, limit=float("inf")), Forgetful(1.0)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_arguments_of_own_classes_are_recorded_however_they_are_kept(name: str) -> None:
    before, after = map(flat_record, CHANGES[name])
    assert before != after
    named = name.split("'s ")[-1].split(".")[0]
    changes = differences(before, after)
    assert [change for change in changes if f".{named}" in change.split(":")[0]] == changes


def test_records_do_not_depend_on_how_arguments_are_passed_or_where_an_object_has_been() -> None:
    torch.manual_seed(0)
    by_position = Positional(BallDenoiser(), renderer(), scale=2.0, guidance_scale=3.0)
    by_name = Positional(
        denoiser=BallDenoiser(), forward_model=renderer(), guidance_scale=3.0, scale=2.0, decay_weight=9.0
    )
    settings = by_position.settings()
    assert settings == by_name.settings() == copy.deepcopy(by_position).settings()
    assert settings["scale"] == 2.0
    assert settings["forward_model.near"] == 1.0
    assert settings["sampler.steps"] == 50
    assert "decay_weight" not in settings
    assert "others" not in settings


def test_what_is_changed_later_counts() -> None:
    sampler = DDIM(50)
    sampler.steps = 20
    assert sampler.record() == DDIM(20).record()
    model = Positional(BallDenoiser(), renderer())
    model.sampler = DDIM(7)
    assert model.settings()["sampler.steps"] == 7


def test_the_content_of_a_file_counts_and_not_its_name(tmp_path: Path) -> None:
    for name, text in (("a.csv", "1"), ("b.csv", "1"), ("c.csv", "2")):
        (tmp_path / name).write_text(text)
    a, b, c = (Forgetful(1.0, table=str(tmp_path / name)).record() for name in ("a.csv", "b.csv", "c.csv"))
    assert a == b != c


class Tabled(Recorded):
    """Has an argument that may be left out."""

    def __init__(self, table: str | None = None) -> None:
        self.table = table


def test_nothing_is_a_value_too() -> None:
    assert Tabled().record() == {CLASS: "test_record.Tabled", "table": None}


def test_members_of_two_enumerations_are_not_the_same() -> None:
    first, second = Enum("First", ["A", "B"]), Enum("Second", ["A", "B"])
    described = [describe(member) for member in (*first, *second)]
    assert len(set(described)) == 4


def test_objects_are_described_the_same_whenever_they_are_made() -> None:
    def part() -> Any:
        return {
            "curve": Curve(1.0),
            "set": {"b", "a"},
            "type": torch.float32,
            "function": torch.relu,
            "nan": float("nan"),
        }

    assert describe(part()) == describe(part())
    assert describe(part())["curve"] == {CLASS: "test_record.Curve", "gamma": 1.0}
    assert describe(DDIM())[CLASS] == "DDIM"


def test_a_wrong_call_fails_as_ever() -> None:
    with pytest.raises(TypeError, match="gain"):
        Forgetful()  # type: ignore[call-arg]
