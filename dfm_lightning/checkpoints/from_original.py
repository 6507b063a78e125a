"""`dfm convert dfm`: convert a checkpoint of the original DFM code to one of this program."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from dfm_lightning.checkpoints.original_file import Weights, read_original_file
from dfm_lightning.checkpoints.original_layout import (
    BACKGROUND,
    BLOCKS_PER_VIEW,
    ESTIMATE_BACKGROUND,
    LEVELS,
    Sizes,
)
from dfm_lightning.checkpoints.original_weights import (
    OutputLayer,
    computed_buffers,
    kept_for_the_way_back,
    left_out,
    to_ours,
)
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file
from dfm_lightning.migrations import CONFIG_VERSION, VERSION_KEY
from dfm_lightning.weights_file import CONFIG_KEY

# Stored beside the state_dict of a converted checkpoint: tensors of theirs that our models lack.
KEPT_KEY = "original_tensors"

# Attention heads of the named transformers (DiT-S, B, L, XL), and of the tests' small one, by width: weight shapes
# do not reveal the number of heads.
HEADS = {64: 4, 384: 6, 768: 12, 1024: 16, 1152: 16}

# Computed numbers of a state may differ in their last digits, depending on where and when they were computed.
SAME = 1e-4


def convert_dfm(
    source: Path,
    destination: Path,
    weights: Weights = "ema",
    heads: int | None = None,
    output_layer: OutputLayer = "lin_out_feats",
) -> None:
    """Convert a checkpoint of the original DFM code (re10k_model.pt, co3d_model.pt) to one of this program.

    `dfm test` and `predict` use the result, `dfm fit` trains it further. A checkpoint of their deterministic stage
    (pixelNeRF) becomes the start of a DFM training. The file's content is recognised and checked; nothing in it is
    run. See docs/checkpoints.md.

    Args:
        source: a checkpoint of the original code.
        destination: the file to write.
        weights: the averaged weights ("ema"), or those at the end of the training ("raw").
        heads: attention heads of the transformer; known for DiT-S, B, L and XL.
        output_layer: of a pixelNeRF, the output layer that the training starts from: "lin_out_feats", which the
            original code takes, though that stage does not train it; or "lin_out", which it does train.
    """
    if source.resolve() == destination.resolve():
        raise UserError(f"{destination} is the file to convert: give another name for the result")
    file = read_original_file(source, weights)
    sizes = file.sizes
    checkpoint = {
        "state_dict": to_ours(file.state, sizes, output_layer),
        CONFIG_KEY: stored_settings(sizes, _heads(sizes, heads), file.state),
        KEPT_KEY: kept_for_the_way_back(file.state, sizes),
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "global_step": 0,
    }
    with whole_file(destination) as aside:
        torch.save(checkpoint, aside)
    print("\n".join(_report(destination, file.state, sizes, file.unused, weights, output_layer)))


def stored_settings(sizes: Sizes, heads: int, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the settings of a model of these sizes, as a checkpoint stores them (see `stored_config`).

    These are only what the state shows: near, far and numbers of samples are left to the config.
    """
    background = state[BACKGROUND].tolist()
    estimate_background = state.get(ESTIMATE_BACKGROUND, state[BACKGROUND]).tolist()
    if estimate_background != background:
        raise UserError(
            f"{BACKGROUND} is {background}, {ESTIMATE_BACKGROUND} is {estimate_background}: here a model has one "
            "background for both"
        )
    renderer = "dfm_lightning.forward_models.VolumeRendering"
    denoiser = {
        "encoder": {
            "class_path": "dfm_lightning.networks.image_encoder.ImageEncoder",
            "init_args": {
                "width": sizes.width,
                "depth": sizes.depth,
                "heads": heads,
                "feature_channels": sizes.features,
                "estimate_features": sizes.estimate_features,
                "stem_channels": sizes.stem,
                "skip_channels": sizes.skip,
                "patch": sizes.patch,
                "absolute_pose": sizes.absolute_pose,
                "position_grid": None,
            },
        },
        "estimate_renderer": {
            "class_path": renderer,
            "init_args": {"background": None, "corner_aligned": None},
        },
        "estimate_reduction": 1,
        "mlp_width": sizes.mlp_width,
        "mlp_blocks": sizes.mlp_blocks,
        "mlp_blocks_per_view": BLOCKS_PER_VIEW,
        "octaves": sizes.octaves,
        "project_behind": True,
        "smooth_levels": False,
    }
    model = {
        "denoiser": {"class_path": "dfm_lightning.denoisers.PixelNeRFDenoiser", "init_args": denoiser},
        "forward_model": {
            "class_path": renderer,
            "init_args": {"background": background, "corner_aligned": True},
        },
        "process": {"class_path": "dfm_lightning.diffusion.CosineProcess", "init_args": {"levels": LEVELS}},
    }
    return {
        VERSION_KEY: CONFIG_VERSION,
        "model": {"class_path": "dfm_lightning.tasks.InverseGraphics", "init_args": model},
        "data": {"init_args": {"image_size": sizes.resolution}},
    }


def _heads(sizes: Sizes, given: int | None) -> int:
    heads = given or HEADS.get(sizes.width)
    if heads is None:
        raise UserError(
            f"a transformer of width {sizes.width} is not one of DiT-S, B, L, XL, and its weights do not reveal "
            "the number of attention heads: give --heads"
        )
    if heads < 1 or sizes.width % heads:
        raise UserError(f"--heads must divide the width {sizes.width} of the transformer, got {heads}")
    return heads


def _report(
    destination: Path,
    state: Mapping[str, Tensor],
    sizes: Sizes,
    unused: list[str],
    weights: Weights,
    output_layer: OutputLayer,
) -> list[str]:
    kind = "DFM" if sizes.stage == "diffusion" else "pixelNeRF, as the start of a DFM training"
    poses = "with" if sizes.absolute_pose else "without"
    lines = [
        f"{destination}: {kind}; {sizes.resolution}×{sizes.resolution} pixels, {poses} absolute poses, "
        f"transformer of {sizes.depth} blocks of {sizes.width}, MLPs of {sizes.mlp_width}; "
        f"{'averaged' if weights == 'ema' else 'raw'} weights"
    ]
    if unused:
        lines.append(f"  left out: {', '.join(unused)}: only the weights are converted, and one copy of them")
    for reason, keys in left_out(state, sizes).items():
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        lines.append(f"  left out: {keys[0]}{more}: {reason}")
    if sizes.stage == "deterministic":
        trained = "is not trained in this stage; --output_layer lin_out takes the one that is"
        chosen = f"lin_out_feats, which {trained}" if output_layer == "lin_out_feats" else "lin_out"
        lines.append(f"  output layer: {chosen}")
    for key, value in computed_buffers(sizes).items():
        difference = (state[key].float() - value).abs().max().item() if key in state else 0.0
        if difference > SAME * max(1.0, value.abs().max().item()):
            lines.append(f"  note: {key} differs from what is computed here by up to {difference:.3g}")
    return lines
