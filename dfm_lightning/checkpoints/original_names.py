"""Our names for the tensors of the original inverse-graphics models."""

from dfm_lightning.checkpoints.original_layout import ENCODER, MLPS, Sizes


def renamed_keys(sizes: Sizes) -> dict[str, str]:
    """Map each of their keys that we only rename to our name within the task's state.

    Folded, split and joined tensors are left out (see `original_weights`), and the output layers of a pixelNeRF.
    """
    ends = ("weight", "bias")
    names = {
        "x_embedder.proj.weight": "tokens.embed.proj.weight",
        "x_embedder.proj.bias": "tokens.embed.proj.bias",
        "t_embedder.mlp.0.weight": "level.mlp.0.weight",
        "t_embedder.mlp.0.bias": "level.mlp.0.bias",
        "t_embedder.mlp.2.weight": "level.mlp.2.weight",
        "conv1.weight": "context_stem.weight",
        "general_conv1.weight": "target_stem.weight",
        "cnn_skip.weight": "skip.weight",
        "cnn_skip.bias": "skip.bias",
        "cnn_refine.weight": "refine.weight",
        "cnn_refine.bias": "refine.bias",
    }
    for end in ends:
        names[f"final_layer.linear.{end}"] = f"output.linear.{end}"
        names[f"final_layer.adaLN_modulation.1.{end}"] = f"output.modulation.1.{end}"
        for block in range(sizes.depth):
            theirs, ours = f"blocks.{block}.", f"core.blocks.{block}."
            for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
                names[f"{theirs}{part}.{end}"] = f"{ours}{part}.{end}"
            names[f"{theirs}adaLN_modulation.1.{end}"] = f"{ours}modulation.1.{end}"
        if sizes.absolute_pose:
            for layer in (0, 2):
                names[f"pose_mlp.{layer}.{end}"] = f"pose.pose.{layer}.{end}"
                names[f"fuse_mlp.{layer}.{end}"] = f"pose.fuse.{layer}.{end}"
    keys = {ENCODER + theirs: f"denoiser.encoder.{ours}" for theirs, ours in names.items()}
    for mlp, ours in MLPS[sizes.stage].items():
        keys |= {mlp + name: f"denoiser.{ours}.{part}" for name, part in _renamed_mlp_keys(sizes).items()}
    return keys


def _renamed_mlp_keys(sizes: Sizes) -> dict[str, str]:
    names = {"lin_in.bias": "position_in.bias"}
    for end in ("weight", "bias"):
        names |= {f"time_mlp.1.{end}": f"level_mlp.0.{end}", f"time_mlp.3.{end}": f"level_mlp.2.{end}"}
        if sizes.stage == "diffusion":
            names[f"lin_out_feats.{end}"] = f"output.{end}"
        for block in range(sizes.mlp_blocks):
            names[f"blocks.{block}.fc_0.{end}"] = f"blocks.{block}.fc0.{end}"
            names[f"blocks.{block}.fc_1.{end}"] = f"blocks.{block}.fc1.{end}"
            names[f"blocks.{block}.mlp.1.{end}"] = f"modulations.{block}.{end}"
    return names
