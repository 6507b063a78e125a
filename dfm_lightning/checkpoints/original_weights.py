"""Convert weights of the original models to ours, and back."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from dfm_lightning.checkpoints.original_buffers import frequencies, schedule_buffers
from dfm_lightning.checkpoints.original_layout import (
    BACKGROUND,
    COLOUR_AND_DENSITY,
    ENCODER,
    ESTIMATE,
    ESTIMATE_BACKGROUND,
    FIELDS,
    LABEL_TABLE,
    LABELS,
    LEVEL_BIAS,
    MLPS,
    PERCEPTUAL,
    POSITIONS,
    SCHEDULE,
    UNUSED_MLP,
    Sizes,
    layout,
)
from dfm_lightning.checkpoints.original_names import renamed_keys
from dfm_lightning.diffusion.noise_process import cosine_schedule
from dfm_lightning.networks.embeddings import position_embedding_2d
from dfm_lightning.randomness import generator_for

# The output layer of a pixelNeRF that a DFM starts from: the one that the original code copies, which that stage
# does not train, or the one that it does train.
OutputLayer = Literal["lin_out_feats", "lin_out"]

OUR_LEVEL_BIAS = "denoiser.encoder.level.mlp.2.bias"
TARGET_STEM = f"{ENCODER}general_conv1.weight"
UNUSED_TARGET_STEM = f"{ENCODER}conv1_ch7.weight"


def to_ours(state: Mapping[str, Tensor], sizes: Sizes, output: OutputLayer = "lin_out_feats") -> dict[str, Tensor]:
    """Convert weights of the original model to the state of our task, in float32.

    The label embedding's row 0, which is added at every level, is folded into a bias; the first layer of each MLP
    is split into its halves for positions and for features. A pixelNeRF's MLPs become those of a DFM as in the
    original code: the coarse one also becomes that of the deterministic field, and outputs are padded with zeros
    for the features. What it lacks, the noisy target's first layer, starts at random.
    """
    state = {key: value.float() for key, value in state.items()}
    if sizes.stage == "deterministic" and TARGET_STEM not in state:
        state[TARGET_STEM] = _new_target_stem(sizes)
    ours = {name: state[key] for key, name in renamed_keys(sizes).items()}
    ours[OUR_LEVEL_BIAS] = state[LEVEL_BIAS] + state[LABEL_TABLE][0]
    for mlp, name in MLPS[sizes.stage].items():
        position, feature = state[f"{mlp}lin_in.weight"].tensor_split([sizes.position_numbers], dim=1)
        ours[f"denoiser.{name}.position_in.weight"] = position.clone(memory_format=torch.contiguous_format)
        ours[f"denoiser.{name}.feature_in.weight"] = feature.clone(memory_format=torch.contiguous_format)
        if sizes.stage == "deterministic":
            for end in ("weight", "bias"):
                ours[f"denoiser.{name}.output.{end}"] = _padded(state[f"{mlp}{output}.{end}"], sizes)
    if sizes.stage == "deterministic":
        coarse, deterministic = "denoiser.coarse_mlp.", "denoiser.deterministic_mlp."
        ours |= {
            deterministic + name.removeprefix(coarse): value
            for name, value in ours.items()
            if name.startswith(coarse)
        }
    return ours


def _padded(layer: Tensor, sizes: Sizes) -> Tensor:
    rows = COLOUR_AND_DENSITY + sizes.estimate_features
    return torch.cat([layer, layer.new_zeros(rows - len(layer), *layer.shape[1:])])


def _new_target_stem(sizes: Sizes) -> Tensor:
    shape = layout(sizes).optional[TARGET_STEM]
    bound = (shape[1] * shape[2] * shape[3]) ** -0.5  # as in torch's own convolutions
    return torch.empty(shape).uniform_(-bound, bound, generator=generator_for("convert dfm", "target stem"))


def left_out(state: Mapping[str, Tensor], sizes: Sizes) -> dict[str, list[str]]:
    """List their keys that our models have no tensors for, by reason."""
    computed = [*SCHEDULE, POSITIONS]
    computed += [f"{field}pos_enc.{name}" for field in FIELDS[sizes.stage] for name in ("_freqs", "_phases")]
    mlps = [f"{field}{mlp}." for field in FIELDS[sizes.stage] for mlp in ("mlp", "mlp_fine")]
    unused_outputs = [f"{mlp}lin_out.{end}" for mlp in mlps for end in ("weight", "bias")]
    groups = {
        "computed here (noise schedule; position embeddings, for any image size; frequencies)": computed,
        "row 0 is part of a bias here, the others name no class": [LABEL_TABLE],
        "settings here": [BACKGROUND, ESTIMATE_BACKGROUND],
    }
    if sizes.stage == "diffusion":
        groups["output layers that they do not use beside lin_out_feats"] = [
            key for key in unused_outputs if not key.startswith(UNUSED_MLP)
        ]
        groups["the estimate has no fine pass"] = [
            key for key in layout(sizes).required if key.startswith(UNUSED_MLP)
        ]
    else:
        groups["a first layer for another estimate than a DFM's"] = [UNUSED_TARGET_STEM]
    groups["the perceptual loss reads its weights from a file of its own"] = [
        key for key in layout(sizes).optional if key.startswith(PERCEPTUAL)
    ]
    return {
        reason: present for reason, keys in groups.items() if (present := [key for key in keys if key in state])
    }


def computed_buffers(sizes: Sizes) -> dict[str, Tensor]:
    """Compute the entries of their state that follow from the sizes: noise schedule, position embeddings,
    frequencies.
    """
    side = sizes.resolution // (2 * sizes.patch)
    buffers = {POSITIONS: position_embedding_2d(side, side, sizes.width, torch.zeros(()))[None]}
    for field in FIELDS[sizes.stage]:
        buffers |= {f"{field}pos_enc.{name}": value for name, value in frequencies(sizes.octaves).items()}
    if sizes.stage == "diffusion":
        buffers |= schedule_buffers(cosine_schedule(1000))
    return buffers


def kept_for_the_way_back(state: Mapping[str, Tensor], sizes: Sizes) -> dict[str, Tensor]:
    """Return the tensors of theirs that our models lack, so that nothing is lost on the way to ours and back."""
    if sizes.stage != "diffusion":
        return {}
    dropped = {key for keys in left_out(state, sizes).values() for key in keys} | {LEVEL_BIAS}
    return {key: state[key].clone() for key in dropped if not key.startswith(PERCEPTUAL)}


def to_theirs(
    ours: Mapping[str, Tensor],
    sizes: Sizes,
    kept: Mapping[str, Tensor],
    background: tuple[float, float, float],
) -> dict[str, Tensor]:
    """Convert our weights to a state of theirs, in the order of `layout`.

    `kept` is what a conversion to ours had kept, or nothing. Unused tensors are made up: labels are zero, the
    estimate's fine MLP equals its coarse one, the unused output layers are parts of the used ones.
    """
    state = {key: ours[name].float() for key, name in renamed_keys(sizes).items()}
    state |= computed_buffers(sizes)
    state[BACKGROUND] = torch.tensor(background)
    state[ESTIMATE_BACKGROUND] = torch.tensor(background)
    state[LABEL_TABLE] = torch.zeros(LABELS, sizes.width)
    state[LEVEL_BIAS] = ours[OUR_LEVEL_BIAS].float()
    for mlp, name in MLPS["diffusion"].items():
        halves = [ours[f"denoiser.{name}.{half}_in.weight"].float() for half in ("position", "feature")]
        state[f"{mlp}lin_in.weight"] = torch.cat(halves, dim=1)
        for end in ("weight", "bias"):
            state[f"{mlp}lin_out.{end}"] = state[f"{mlp}lin_out_feats.{end}"][:COLOUR_AND_DENSITY].clone()
    estimate = f"{ESTIMATE}mlp."
    state |= {
        UNUSED_MLP + key.removeprefix(estimate): value.clone()
        for key, value in state.items()
        if key.startswith(estimate)
    }
    if kept:
        state |= _with_kept(state, sizes, kept)
    return {key: state[key].clone() for key in layout(sizes).required}


def _with_kept(state: Mapping[str, Tensor], sizes: Sizes, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    shapes = layout(sizes).required
    # Backgrounds are settings here; position embeddings may be needed for another size.
    usable = {
        key: value
        for key, value in kept.items()
        if key not in (BACKGROUND, ESTIMATE_BACKGROUND, LEVEL_BIAS) and shapes.get(key) == tuple(value.shape)
    }
    first_label = kept[LABEL_TABLE][0].float()
    folded = kept[LEVEL_BIAS].float() + first_label
    unchanged = torch.equal(folded, state[LEVEL_BIAS])
    return {**usable, LEVEL_BIAS: kept[LEVEL_BIAS] if unchanged else state[LEVEL_BIAS] - first_label}
