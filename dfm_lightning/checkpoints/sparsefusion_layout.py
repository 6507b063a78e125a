"""The tensors of SparseFusion's released checkpoints: their names here, those that are unused, and sizes."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from dfm_lightning.checkpoints.inert_pickle import printable
from dfm_lightning.errors import UserError

Rules = tuple[tuple[str, str], ...]

# Rules in order; each is applied to every key. The final name is the place of the tensor here.
_EFT: Rules = (
    (r"^encoder_model\.conv1\.", "pyramid.convolution."),
    (r"^encoder_model\.bn1\.", "pyramid.norm."),
    (r"^encoder_model\.layer1\.", "pyramid.groups.0."),
    (r"^encoder_model\.layer2\.", "pyramid.groups.1."),
    (r"^encoder_model\.layer3\.", "pyramid.groups.2."),
    (r"^t1\.", "aggregation.over_views_at_points."),
    (r"^t2\.", "aggregation.over_depths."),
    (r"^t3\.", "aggregation.over_views."),
    (r"\.pre\.0\.", ".entry.0."),
    (r"^t2_attn\.", "aggregation.depth_weight."),
    (r"^t3_attn\.", "aggregation.view_weight."),
    (r"^color_layer\.0\.", "aggregation.colour."),
)
_EFT_UNUSED = {
    r"^encoder_model\.(layer4|fc)\.": "the last layers of ResNet-18, which the pyramid does without",
}
_UNET: Rules = (
    (r"^unets\.0\.", ""),
    (r"^init_conv\.convs\.", "input.parts."),
    (r"^to_time_hiddens\.0\.weights$", "time.frequencies"),
    (r"^to_time_hiddens\.1\.", "time.hidden."),
    (r"^to_time_cond\.0\.", "time.vector."),
    (r"^to_time_tokens\.0\.", "time.tokens."),
    (r"^norm_cond\.", "time.token_norm."),
    (r"^downs\.(\d+)\.1\.", r"down.\1.entry."),
    (r"^downs\.(\d+)\.2\.", r"down.\1.blocks."),
    (r"^downs\.(\d+)\.3\.layers\.0\.0\.fn\.", r"down.\1.transformer.attention."),
    (r"^downs\.(\d+)\.3\.layers\.0\.1\.", r"down.\1.transformer.feed_forward."),
    (r"^downs\.(\d+)\.4\.fns\.0\.", r"down.\1.change.wide."),
    (r"^downs\.(\d+)\.4\.fns\.1\.", r"down.\1.change.narrow."),
    (r"^downs\.(\d+)\.4\.", r"down.\1.change."),
    (r"^ups\.(\d+)\.0\.", r"up.\1.entry."),
    (r"^ups\.(\d+)\.1\.", r"up.\1.blocks."),
    (r"^ups\.(\d+)\.2\.layers\.0\.0\.fn\.", r"up.\1.transformer.attention."),
    (r"^ups\.(\d+)\.2\.layers\.0\.1\.", r"up.\1.transformer.feed_forward."),
    (r"^ups\.(\d+)\.3\.net\.0\.", r"up.\1.change.0."),
    (r"^mid_block1\.", "middle_first."),
    (r"^mid_attn\.fn\.fn\.", "middle_attention."),
    (r"^mid_block2\.", "middle_second."),
    (r"^final_res_block\.", "last_block."),
    (r"^final_conv\.", "output."),
    (r"\.time_mlp\.1\.", ".modulation."),
    (r"\.block1\.groupnorm\.", ".first_norm."),
    (r"\.block1\.project\.", ".first."),
    (r"\.block2\.groupnorm\.", ".second_norm."),
    (r"\.block2\.project\.", ".second."),
    (r"\.gca\.to_k\.", ".context.weight."),
    (r"\.gca\.net\.", ".context.factors."),
    (r"\.res_conv\.", ".shortcut."),
    (r"\.cross_attn\.fn\.", ".cross_attention."),
    (r"\.null_kv$", ".null"),
    (r"\.to_q\.", ".queries."),
    (r"\.to_kv\.", ".keys_values."),
    (r"\.to_context\.0\.", ".condition_norm."),
    (r"\.to_context\.1\.", ".condition_keys_values."),
    (r"\.to_out\.0\.", ".output."),
    (r"\.to_out\.1\.", ".output_norm."),
    (r"\.g$", ".gain"),
)
_UNET_UNUSED = {
    r"^unets\.0\.null_conditional_": "what stands for a missing text, which this model is never given",
}


class Named(NamedTuple):
    """Tensors under the names that they have here, and the keys without a part, by the reason."""

    state: dict[str, Tensor]
    left_out: dict[str, list[str]]


def name_eft(state: Mapping[str, Tensor]) -> Named:
    """Name the tensors of an epipolar feature transformer as `EpipolarTransformer` does."""
    return _named(state, _EFT, _EFT_UNUSED, "the epipolar feature transformer")


def name_unet(state: Mapping[str, Tensor]) -> Named:
    """Name the tensors of the denoising U-Net as `LatentUNet` does."""
    named = _named(state, _UNET, _UNET_UNUSED, "the denoising U-Net")
    # Gains of channels have a dimension for the batch there.
    fixed = {
        key: value[0] if key.endswith(".gain") and value.ndim == 4 else value for key, value in named.state.items()
    }
    return named._replace(state=fixed)


def _named(state: Mapping[str, Tensor], rules: Rules, unused: Mapping[str, str], what: str) -> Named:
    renamed: dict[str, Tensor] = {}
    left_out: dict[str, list[str]] = {}
    for key, value in state.items():
        reason = next((reason for pattern, reason in unused.items() if re.search(pattern, key)), None)
        if reason is not None:
            left_out.setdefault(reason, []).append(key)
            continue
        name = key
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if name == key and not key.startswith("time."):
            raise UserError(f"it holds an unknown tensor {printable(key)}, which is not part of {what}")
        renamed[name] = value
    return Named(renamed, left_out)


class EFTSizes(NamedTuple):
    """The sizes of an epipolar feature transformer that its shapes reveal."""

    width: int
    layers: int
    octaves: int


class UNetSizes(NamedTuple):
    """The arguments of `LatentUNet` that the shapes of a denoising U-Net reveal: all but numbers of heads."""

    condition_channels: int
    latent_channels: int
    width: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[bool, ...]
    heads: int
    head_width: int
    cross_heads: int
    cross_head_width: int


def eft_sizes(state: Mapping[str, Tensor]) -> EFTSizes:
    """Read sizes off tensors as `name_eft` names them. Raises UserError if what they are read from is missing."""
    width, _ = _shape(state, "aggregation.over_views.entry.0.weight", 2)
    _, inputs = _shape(state, "aggregation.over_views.entry.0.weight", 2)
    # Two embedded rays of six numbers each, and what the transformer before gives.
    octaves = ((inputs - width) // 12 - 1) // 2
    layers = _count(state, r"^aggregation\.over_views\.encoder\.layers\.(\d+)\.")
    return EFTSizes(width, layers, octaves)


def unet_sizes(state: Mapping[str, Tensor]) -> UNetSizes:
    """Read sizes off tensors as `name_unet` names them. Raises UserError if what they are read from is missing."""
    latents, width, *_ = _shape(state, "output.weight", 4)
    _, inputs, *_ = _shape(state, "input.parts.0.weight", 4)
    levels = _count(state, r"^down\.(\d+)\.")
    last = levels - 1
    after = [_shape(state, f"up.{last - level}.entry.second.weight", 4)[0] for level in range(levels)]
    attention = tuple(f"down.{level}.transformer.attention.null" in state for level in range(levels))
    head_width = _shape(state, "middle_attention.null", 2)[1]
    cross_width = _shape(state, "middle_first.cross_attention.null", 2)[1]
    return UNetSizes(
        condition_channels=inputs - latents,
        latent_channels=latents,
        width=width,
        multipliers=tuple(channels // width for channels in after),
        blocks=_count(state, r"^down\.0\.blocks\.(\d+)\."),
        attention=attention,
        heads=_shape(state, "middle_attention.queries.weight", 2)[0] // head_width,
        head_width=head_width,
        cross_heads=_shape(state, "middle_first.cross_attention.queries.weight", 2)[0] // cross_width,
        cross_head_width=cross_width,
    )


def _shape(state: Mapping[str, Tensor], key: str, dimensions: int) -> tuple[int, ...]:
    if key not in state:
        raise UserError(f"it lacks the tensor that becomes {key}")
    shape = tuple(state[key].shape)
    if len(shape) != dimensions:
        raise UserError(f"the tensor that becomes {key} has shape {shape}, expected {dimensions} dimensions")
    return shape


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    found = [int(match[1]) for key in state if (match := re.search(pattern, key))]
    if not found:
        raise UserError(f"it lacks all tensors that would become {pattern}")
    return max(found) + 1
