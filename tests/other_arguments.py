"""Another value for every argument of every recorded class."""

import types
import typing
from typing import Any

from ball_scenes import BallDenoiser
from small_objects import SMALL_OPERATOR, encoder, estimate_renderer, small_pixelnerf, small_volume_denoiser

from datamodules.synthetic.face_attributes import FaceAttributes
from dfm_lightning.callbacks import (
    SceneWriter,
)
from dfm_lightning.denoisers import (
    DiTDenoiser,
    ImageToMotion,
    LookGuidance,
    MLPDenoiser,
    OperatorDenoiser,
    PatchToCode,
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
    PerturbedAttention,
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
from dfm_lightning.geometry.scene_grids import ObjectCube
from dfm_lightning.networks.epipolar import (
    DepthRange,
    EpipolarTransformer,
    ResNetPyramid,
)
from dfm_lightning.networks.grid_encoding import GridEncoding
from dfm_lightning.networks.grid_field import GridField
from dfm_lightning.networks.latent_codec import SmallCodec, StableDiffusionCodec
from dfm_lightning.networks.latent_unet import LatentUNet
from dfm_lightning.optimizers import AdamWithWarmup
from dfm_lightning.sampling import DiffusionSampling
from dfm_lightning.tasks import (
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
# Subclasses without an entry have their nearest base's.
OTHERS_OF: dict[tuple[type, str], Any] = {
    (ContextGuidance, "rate"): 0.5,
    (Distillation, "last_time"): 0.5,
    (Distillation, "folder"): "states",
    (PerturbedAttention, "blocks"): [0],
    (SceneWriter, "export"): ["mesh"],
    (SceneWriter, "export_resolution"): 64,
    (UNetDenoiser, "signal_shape"): [1, 8, 8],
    (UNetDenoiser, "widths"): [8, 16],
    (DiTDenoiser, "signal_shape"): [1, 8, 8],
    (DiTDenoiser, "patch"): 4,
    (DiTDenoiser, "heads"): 4,
    (MotionPrediction, "objective"): lambda: MotionObjective(hole_weight=0.5),
    (DiffusionSampling, "forward_model"): lambda: VolumeRendering(1.0, 6.0),
    (MotionPrediction, "forward_model"): lambda: ImageWarping("blank"),
    (GANInversion, "forward_model"): lambda: ImageGeneration("other.safetensors"),
    (DiffusionSampling, "denoiser"): lambda: MLPDenoiser(4, [2]),
    (InverseGraphics, "denoiser"): small_volume_denoiser,
    (MotionPrediction, "denoiser"): lambda: ImageToMotion(width=16, depth=1, heads=1),
    (GANInversion, "denoiser"): lambda: PatchToCode(code_width=6, layers=8, width=16, depth=1, heads=2),
    (PatchToCode, "patch"): 2,
    (VolumeDenoiser, "look_guidance"): lambda: LookGuidance([2.0, 1.0]),
    (LookGuidance, "scales"): [2.0, 3.0],
    (LookGuidance, "least_noise"): 0.5,
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
    (LinearInverseProblem, "mean_noises"): (5.0, 1.0),
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
# Arguments without which another one is refused; those of the nearest base.
TOGETHER: dict[tuple[type, str], dict[str, Any]] = {
    (DPMSolver, "full_curvature"): {"order": 3},
    (VolumeDenoiser, "look_guidance"): {"hidden_colours": 2},
    (VolumeDenoiser, "unmixed_looks"): {"hidden_colours": 2},
    (DiffusionSampling, "perturbed_attention"): {"denoiser": small_pixelnerf},
    (MotionPrediction, "perturbed_attention"): {},
    (GANInversion, "perturbed_attention"): {},
    (DepthRange, "near"): {"near": 0.5, "far": 9.0},
    (DepthRange, "far"): {"near": 0.5, "far": 9.0},
}


def needed_with(cls: type, name: str) -> dict[str, Any]:
    """The arguments without which another value of this one is refused."""
    return next((TOGETHER[base, name] for base in cls.__mro__ if (base, name) in TOGETHER), {})


def another(cls: type, name: str, annotation: Any, default: Any) -> Any:
    """A value that an argument does not have by default."""
    own = next((OTHERS_OF[base, name] for base in cls.__mro__ if (base, name) in OTHERS_OF), None)
    if own is not None:
        return own
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
