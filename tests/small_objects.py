"""Small objects of every recorded class: the arguments that each is made with."""

import inspect
import typing
from collections.abc import Iterator
from typing import Any

from ball_scenes import BallDenoiser, renderer

from dfm_lightning.callbacks import (
    CodeReport,
    CodeWriter,
    LinearReport,
    LinearWriter,
    MotionReport,
    MotionWriter,
    SceneReport,
    SceneWriter,
    ScoreReport,
    TensorWriter,
)
from dfm_lightning.denoisers import (
    DiTDenoiser,
    ImageToMotion,
    LookGuidance,
    MLPDenoiser,
    OperatorDenoiser,
    PatchToCode,
    PixelNeRFDenoiser,
    UNetDenoiser,
    VolumeDenoiser,
)
from dfm_lightning.diffusion import (
    GivenLevels,
)
from dfm_lightning.diffusion.reward_guidance import SVDD, NearColour, TreeSearch
from dfm_lightning.forward_models import ImageGeneration, ImageWarping, VolumeRendering
from dfm_lightning.forward_models.linear import LinearMeasurements
from dfm_lightning.forward_models.linear.laws import (
    OneOf,
    PatchMasks,
)
from dfm_lightning.geometry.scene_grids import ObjectCube, ViewFrustum
from dfm_lightning.networks.epipolar import (
    EpipolarAggregation,
    EpipolarTransformer,
    ResNetPyramid,
)
from dfm_lightning.networks.grid_encoding import GridEncoding
from dfm_lightning.networks.grid_field import GridField
from dfm_lightning.networks.image_encoder import ImageEncoder
from dfm_lightning.networks.latent_codec import SmallCodec, StableDiffusionCodec
from dfm_lightning.networks.latent_unet import LatentUNet
from dfm_lightning.record import Recorded, flat
from dfm_lightning.sampling import DiffusionSampling
from dfm_lightning.tasks import (
    DistilledScenes,
    EpipolarViews,
    GANInversion,
    LatentViews,
    LinearInverseProblem,
    MotionPrediction,
)


def with_subclasses(base: type) -> Iterator[type]:
    yield base
    for child in base.__subclasses__():
        yield from with_subclasses(child)


def flat_record(thing: Recorded) -> dict[str, Any]:
    return flat({"it": thing.record()})


def made(value: Any) -> Any:
    return value() if inspect.isroutine(value) or isinstance(value, type) else value


def small_arguments(cls: type) -> dict[str, Any]:
    """The arguments of a small object: its class's in `SMALL`, or its nearest base's; other numbers are 1."""
    given = next((SMALL[base] for base in cls.__mro__ if base in SMALL), {})
    hints = typing.get_type_hints(cls.__init__)
    required = [name for name, parameter in inspect.signature(cls).parameters.items() if is_required(parameter)]
    return {**{name: hints[name](1) for name in required if hints.get(name) in (int, float)}, **given}


def is_required(parameter: inspect.Parameter) -> bool:
    named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return named and parameter.default is parameter.empty


def encoder(**options: Any) -> ImageEncoder:
    return ImageEncoder(**{"width": 16, "depth": 1, "heads": 2, "feature_channels": 4, **options})


def estimate_renderer(**options: Any) -> VolumeRendering:
    return VolumeRendering(**{"near": 1.0, "far": 5.0, "fine_samples": 0, **options})


SMALL_OPERATOR: dict[str, Any] = {
    "depths": (1,), "widths": (24,), "windows": (0,), "joint": (True,), "mapping_width": 16, "head_width": 8,
}  # fmt: skip


SMALL_PIXELNERF: dict[str, Any] = {
    "encoder": encoder,
    "estimate_renderer": estimate_renderer,
    "mlp_width": 8,
    "mlp_blocks": 3,
    "mlp_blocks_per_view": 1,
    "source_colours": True,
}


def small_pixelnerf() -> PixelNeRFDenoiser:
    return PixelNeRFDenoiser(**{name: made(value) for name, value in SMALL_PIXELNERF.items()})


SMALL_VOLUME: dict[str, Any] = {
    "grid": lambda: ObjectCube(4.0, 2.0),
    "resolution": 8,
    "image_widths": [8, 8],
    "volume_widths": [8, 8],
    "condition_width": 16,
    "estimate_renderer": estimate_renderer,
}


def small_volume_denoiser() -> VolumeDenoiser:
    return VolumeDenoiser(**{name: made(value) for name, value in SMALL_VOLUME.items()})


SMALL_LATENT: dict[str, Any] = {
    "transformer": lambda: EpipolarTransformer(ResNetPyramid(1), 8, 1, depths=4),
    "unet": lambda: LatentUNet(8, 4, 8, (1,), 1, (False,), 2, 4),
    "codec": lambda: SmallCodec(width=4),
}


# Arguments that a small object of each class is made with, and of its subclasses without an entry.
SMALL: dict[type, dict[str, Any]] = {
    UNetDenoiser: {"signal_shape": [1, 4, 4], "widths": [8, 8], "level_width": 16},
    DiTDenoiser: {"signal_shape": [1, 4, 4], "width": 16, "depth": 1, "heads": 2, "patch": 2},
    MLPDenoiser: {"inputs": 4, "signal_shape": [2], "width": 8, "depth": 1},
    ImageToMotion: {"width": 16, "depth": 1, "heads": 2},
    PatchToCode: {"code_width": 6, "width": 16, "depth": 1, "heads": 2},
    PixelNeRFDenoiser: SMALL_PIXELNERF,
    ImageEncoder: {"width": 16, "depth": 1, "heads": 2, "feature_channels": 4},
    VolumeRendering: {"near": 1.0, "far": 5.0},
    ImageWarping: {},
    ImageGeneration: {"generator": "small.safetensors"},
    VolumeDenoiser: SMALL_VOLUME,
    LookGuidance: {"scales": [2.0, 1.0]},
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
    DiffusionSampling: {"denoiser": BallDenoiser, "forward_model": renderer},
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
    LinearReport: {"output": "test"},
    SceneWriter: {"output": "predictions"},
    MotionWriter: {"output": "predictions"},
    SceneReport: {"output": "test"},
    CodeReport: {"output": "test"},
    MotionReport: {"output": "test"},
}
