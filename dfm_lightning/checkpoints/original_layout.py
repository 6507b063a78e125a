"""The state of the original inverse-graphics models: its keys and their shapes.

The original code is github.com/ayushtewari/DFM, commit 50c6e20. Only names and shapes are taken from it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from math import isqrt
from typing import Literal, NamedTuple

from torch import Tensor

from dfm_lightning.errors import UserError

# The content of a file: a trained DFM, or the pixelNeRF that its training starts from (Co3D).
Stage = Literal["diffusion", "deterministic"]
Shape = tuple[int, ...]

LEVELS = 1000
LABELS = 1001
SINUSOIDS = 256
COLOUR_AND_DENSITY = 4
COLOUR_AND_DEPTH = 4
POSE_NUMBERS = 156
# Not visible in the shapes: the mean over views comes before this block.
BLOCKS_PER_VIEW = 3
# For a pixelNeRF, whose own output has none: the features of the DFM that it starts.
ESTIMATE_FEATURES = 64

ENCODER = "model.enc."
POSITIONS = f"{ENCODER}pos_embed"
LABEL_TABLE = f"{ENCODER}y_embedder.embedding_table.weight"
LEVEL_BIAS = f"{ENCODER}t_embedder.mlp.2.bias"
BACKGROUND = "model.renderer.backgrd_color"
ESTIMATE_BACKGROUND = "model.renderer_coarse.backgrd_color"
JOINT, ESTIMATE, PIXELNERF = "model.pixelNeRF_joint.", "model.pixelNeRF_joint_coarse.", "model.pixelNeRF."
UNUSED_MLP = f"{ESTIMATE}mlp_fine."
PERCEPTUAL = "perceptual_loss."
SCHEDULE = (
    *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"),
    *("log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"),
    *("posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
    "p2_loss_weight",
)

# Their MLPs and ours.
MLPS: dict[Stage, dict[str, str]] = {
    "diffusion": {
        f"{JOINT}mlp.": "coarse_mlp",
        f"{JOINT}mlp_fine.": "fine_mlp",
        f"{ESTIMATE}mlp.": "deterministic_mlp",
    },
    "deterministic": {f"{PIXELNERF}mlp.": "coarse_mlp", f"{PIXELNERF}mlp_fine.": "fine_mlp"},
}
FIELDS: dict[Stage, tuple[str, ...]] = {"diffusion": (JOINT, ESTIMATE), "deterministic": (PIXELNERF,)}


class Sizes(NamedTuple):
    """The numbers that decide every shape.

    `tokens` is the number of patches of an image; `outputs` the number of outputs of a radiance MLP for a point.
    """

    stage: Stage
    tokens: int
    width: int
    depth: int
    stem: int
    patch: int
    features: int
    skip: int
    mlp_width: int
    mlp_blocks: int
    octaves: int
    outputs: int
    absolute_pose: bool

    @property
    def resolution(self) -> int:
        """Return height and width of the images: the stem halves them, then come the patches."""
        return 2 * self.patch * isqrt(self.tokens)

    @property
    def position_numbers(self) -> int:
        """Return the length of the encoding of a point's position."""
        return 3 + 6 * self.octaves

    @property
    def estimate_features(self) -> int:
        """Return the number of features of the deterministic estimate."""
        return self.outputs - COLOUR_AND_DENSITY or ESTIMATE_FEATURES


class Layout(NamedTuple):
    """The keys of a state with their shapes. Those of `optional` may be absent."""

    required: dict[str, Shape]
    optional: dict[str, Shape]


def _linear(name: str, outputs: int, inputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def layout(sizes: Sizes) -> Layout:
    """Return every key of a state of these sizes."""
    required = _encoder_layout(sizes)
    optional = _perceptual_layout()
    for field in FIELDS[sizes.stage]:
        required |= {f"{field}pos_enc.{name}": (1, 2 * sizes.octaves, 1) for name in ("_freqs", "_phases")}
        for mlp in ("mlp", "mlp_fine"):
            required |= _mlp_layout(f"{field}{mlp}.", sizes)
    required[BACKGROUND] = (3,)
    schedule: dict[str, Shape] = dict.fromkeys(SCHEDULE, (LEVELS,))
    if sizes.stage == "diffusion":
        return Layout({**schedule, **required, ESTIMATE_BACKGROUND: (3,)}, optional)
    # The original loader would load these too, if present.
    target_stem = {f"{ENCODER}general_conv1.weight": _target_stem(sizes)}
    return Layout(required, {**schedule, **target_stem, ESTIMATE_BACKGROUND: (3,), **optional})


def _target_stem(sizes: Sizes) -> Shape:
    return (sizes.stem, 3 + COLOUR_AND_DEPTH + sizes.estimate_features, 7, 7)


def _encoder_layout(sizes: Sizes) -> dict[str, Shape]:
    w = sizes.width
    keys: dict[str, Shape] = {
        "pos_embed": (1, sizes.tokens, w),
        "x_embedder.proj.weight": (w, sizes.stem, sizes.patch, sizes.patch),
        "x_embedder.proj.bias": (w,),
        **_linear("t_embedder.mlp.0", w, SINUSOIDS),
        **_linear("t_embedder.mlp.2", w, w),
        "y_embedder.embedding_table.weight": (LABELS, w),
        "conv1.weight": (sizes.stem, 3, 7, 7),
        "cnn_skip.weight": (sizes.skip, 3, 7, 7),
        "cnn_skip.bias": (sizes.skip,),
        "cnn_refine.weight": (sizes.features, sizes.features + sizes.skip, 3, 3),
        "cnn_refine.bias": (sizes.features,),
        **_linear("final_layer.linear", sizes.patch**2 * sizes.features, w),
        **_linear("final_layer.adaLN_modulation.1", 2 * w, w),
    }
    if sizes.stage == "diffusion":
        keys["general_conv1.weight"] = _target_stem(sizes)
    else:
        keys["conv1_ch7.weight"] = (sizes.stem, 7, 7, 7)
    for block in range(sizes.depth):
        keys |= _linear(f"blocks.{block}.attn.qkv", 3 * w, w)
        keys |= _linear(f"blocks.{block}.attn.proj", w, w)
        keys |= _linear(f"blocks.{block}.mlp.fc1", 4 * w, w)
        keys |= _linear(f"blocks.{block}.mlp.fc2", w, 4 * w)
        keys |= _linear(f"blocks.{block}.adaLN_modulation.1", 6 * w, w)
    if sizes.absolute_pose:
        keys |= _linear("pose_mlp.0", w, POSE_NUMBERS) | _linear("pose_mlp.2", w, w)
        keys |= _linear("fuse_mlp.0", 2 * w, 2 * w) | _linear("fuse_mlp.2", w, 2 * w)
    return {ENCODER + name: shape for name, shape in keys.items()}


def _mlp_layout(prefix: str, sizes: Sizes) -> dict[str, Shape]:
    w = sizes.mlp_width
    keys = {
        **_linear("lin_in", w, sizes.position_numbers + sizes.features),
        **_linear("lin_out", COLOUR_AND_DENSITY, w),
        **_linear("lin_out_feats", sizes.outputs, w),
        **_linear("time_mlp.1", 4 * w, w),
        **_linear("time_mlp.3", 4 * w, 4 * w),
    }
    for block in range(sizes.mlp_blocks):
        keys |= _linear(f"blocks.{block}.fc_0", w, w) | _linear(f"blocks.{block}.fc_1", w, w)
        keys |= _linear(f"blocks.{block}.mlp.1", 2 * w, 4 * w)
    return {prefix + name: shape for name, shape in keys.items()}


def _perceptual_layout() -> dict[str, Shape]:
    """Return the layout of LPIPS on VGG-16, which their state also holds."""
    keys: dict[str, Shape] = {"scaling_layer.shift": (1, 3, 1, 1), "scaling_layer.scale": (1, 3, 1, 1)}
    slices = {1: (0, 2), 2: (5, 7), 3: (10, 12, 14), 4: (17, 19, 21), 5: (24, 26, 28)}
    channels = (64, 128, 256, 512, 512)
    before = 3
    for number, layers in slices.items():
        after = channels[number - 1]
        for layer in layers:
            keys[f"net.slice{number}.{layer}.weight"] = (after, before, 3, 3)
            keys[f"net.slice{number}.{layer}.bias"] = (after,)
            before = after
        keys[f"lin{number - 1}.model.1.weight"] = (1, after, 1, 1)
        keys[f"lins.{number - 1}.model.1.weight"] = (1, after, 1, 1)
    return {PERCEPTUAL + name: shape for name, shape in keys.items()}


def recognise(state: Mapping[str, Tensor]) -> Sizes:
    """Infer the sizes of a model from the keys and shapes of its state.

    Each size is the one that most of the tensors showing it agree on, so that a misshapen one stands out
    afterwards.

    Raises:
        UserError: the state is of another kind of model.
    """
    if any(key.startswith(JOINT) for key in state):
        stage: Stage = "diffusion"
    elif any(key.startswith(PIXELNERF) for key in state):
        stage = "deterministic"
    else:
        raise UserError(f"it holds no {JOINT}* and no {PIXELNERF}*, which models of the original code have")
    mlps = [f"{field}{mlp}." for field in FIELDS[stage] for mlp in ("mlp", "mlp_fine")]
    proj, refine = f"{ENCODER}x_embedder.proj", f"{ENCODER}cnn_refine"

    def most(what: str, *places: tuple[str, int], as_size: Callable[[int], int] = int) -> int:
        found = [
            as_size(state[key].shape[axis]) for key, axis in places if key in state and state[key].ndim > axis
        ]
        if not found or min(found) < 1:
            raise UserError(f"it does not show {what}: {places[0][0]} is missing or empty")
        return Counter(found).most_common(1)[0][0]

    features = most("the number of features", (f"{refine}.bias", 0), (f"{refine}.weight", 0))
    return Sizes(
        stage=stage,
        tokens=most("the number of tokens", (POSITIONS, 1), as_size=lambda count: round(count**0.5) ** 2),
        width=most(
            "the width of the transformer",
            *((f"{proj}.bias", 0), (f"{proj}.weight", 0), (POSITIONS, 2), (LABEL_TABLE, 1), (LEVEL_BIAS, 0)),
        ),
        depth=_count(state, [f"{ENCODER}blocks."]),
        stem=most("the channels of the stem", (f"{ENCODER}conv1.weight", 0), (f"{proj}.weight", 1)),
        patch=most("the size of a patch", (f"{proj}.weight", 2), (f"{proj}.weight", 3)),
        features=features,
        skip=most("the skip's channels", (f"{ENCODER}cnn_skip.bias", 0), (f"{ENCODER}cnn_skip.weight", 0)),
        mlp_width=most("the width of the MLPs", *((f"{mlp}lin_in.bias", 0) for mlp in mlps)),
        mlp_blocks=_count(state, [f"{mlp}blocks." for mlp in mlps]),
        octaves=most(
            "the octaves of the positional encoding",
            *((f"{field}pos_enc.{name}", 1) for field in FIELDS[stage] for name in ("_freqs", "_phases")),
            as_size=lambda count: count // 2,
        ),
        outputs=most("the outputs of the MLPs", *((f"{mlp}lin_out_feats.bias", 0) for mlp in mlps)),
        absolute_pose=any(key.startswith((f"{ENCODER}pose_mlp.", f"{ENCODER}fuse_mlp.")) for key in state),
    )


def _count(state: Iterable[str], prefixes: list[str]) -> int:
    """Count numbered parts: one more than the largest number after any of the prefixes."""
    numbers = [key[len(prefix) :].split(".")[0] for key in state for prefix in prefixes if key.startswith(prefix)]
    return 1 + max((int(number) for number in numbers if number.isdecimal() and len(number) < 4), default=-1)
