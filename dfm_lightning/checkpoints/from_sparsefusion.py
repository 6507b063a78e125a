"""`dfm convert sparsefusion`: SparseFusion's released checkpoints become one of this program."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from dfm_lightning.checkpoints.inert_pickle import printable
from dfm_lightning.checkpoints.original_file import load_data
from dfm_lightning.checkpoints.sparsefusion_layout import (
    Named,
    eft_sizes,
    name_eft,
    name_unet,
    unet_sizes,
)
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file
from dfm_lightning.migrations import CONFIG_VERSION, VERSION_KEY
from dfm_lightning.networks.epipolar import EpipolarTransformer
from dfm_lightning.networks.latent_codec import STABLE_DIFFUSION_FILE, StableDiffusionCodec
from dfm_lightning.networks.latent_unet import LatentUNet
from dfm_lightning.weights_file import CONFIG_KEY
from dfm_lightning.wording import counted

_ENTRIES = ("step", "model_state_dict", "optimizer", "scheduler")
_VAE_PREFIX = "first_stage_model."
_VAE_URL = "https://huggingface.co/CompVis/stable-diffusion-v-1-3-original"
# Image and feature grid of the released models, in pixels and rays a side.
_IMAGE_SIZE, _RAYS = 256, 32


def convert_sparsefusion(eft: Path, diffusion: Path, vae: Path, destination: Path) -> None:
    """Convert SparseFusion's released weights to one checkpoint of this program.

    The result is for `dfm test` and `predict` with LatentViews or DistilledScenes. It includes the released code's
    own conventions (the grid of rays, corners of feature maps, depths behind near cameras). Everything in the
    files is checked; nothing in them is run. See docs/sparsefusion.md.

    Args:
        eft: the epipolar feature transformer, ckpt_latest_eft.pt.
        diffusion: the diffusion model, ckpt_latest.pt.
        vae: Stable Diffusion's autoencoder, sd-v1-3-vae.ckpt.
        destination: the file to write.
    """
    sources = (eft, diffusion, vae)
    if destination.resolve() in {source.resolve() for source in sources}:
        raise UserError(f"{destination} is a file to convert: give another name for the result")
    codec_state, widths = _read(vae, _codec)
    transformer, transformer_config = _read(eft, _transformer)
    unet, unet_config = _read(diffusion, _unet)
    codec_config = _class("dfm_lightning.networks.latent_codec.StableDiffusionCodec", {"widths": widths})
    model = {
        "transformer": transformer_config,
        "unet": unet_config,
        "codec": codec_config,
        "process": {"class_path": "dfm_lightning.diffusion.LogSNRCosine"},
        "rays": _RAYS,
        "rays_at_corners": True,
    }
    state: dict[str, Tensor] = {
        **{f"transformer.{key}": value for key, value in transformer.state.items()},
        **{f"unet.{key}": value for key, value in unet.state.items()},
        **{f"codec.network.{key}": value for key, value in codec_state.items()},
    }
    config = {
        VERSION_KEY: CONFIG_VERSION,
        "model": _class("dfm_lightning.tasks.LatentViews", model),
        "data": {"init_args": {"image_size": _IMAGE_SIZE, "target_scale": None}},
    }
    _write(destination, {"state_dict": state, CONFIG_KEY: config})
    print("\n".join(_report(destination, {eft: transformer, diffusion: unet}, state)))


def convert_stable_diffusion_codec(vae: Path, destination: Path) -> None:
    """Convert Stable Diffusion's autoencoder to initial weights of a LatentViews model.

    `dfm fit --initial_weights DESTINATION --new_parts true` starts a new training from them; everything but the
    autoencoder begins untrained. The file is checked; nothing in it is run.

    Args:
        vae: Stable Diffusion's autoencoder, sd-v1-3-vae.ckpt.
        destination: the file to write.
    """
    if destination.resolve() == vae.resolve():
        raise UserError(f"{destination} is the file to convert: give another name for the result")
    state, _ = _read(vae, _codec)
    _write(destination, {"state_dict": {f"codec.network.{key}": value for key, value in state.items()}})
    print(f"{destination}: an autoencoder of {counted(len(state), 'tensor')}")


def _write(destination: Path, content: dict[str, Any]) -> None:
    beside = {"pytorch-lightning_version": lightning.__version__, "epoch": 0, "global_step": 0}
    with whole_file(destination) as aside:
        torch.save({**content, **beside}, aside)


def _read(path: Path, convert: Any) -> Any:
    """Convert a file's content by a function; errors name the file."""
    if not path.is_file():
        where = f"; get {STABLE_DIFFUSION_FILE} from {_VAE_URL}" if convert is _codec else ""
        raise UserError(f"{path}: there is no such file{where}")
    try:
        return convert(load_data(path))
    except UserError as error:
        raise UserError(f"{path} cannot be converted: {error}") from error


def _transformer(content: Any) -> tuple[Named, dict[str, Any]]:
    named = name_eft(_state(content))
    sizes = eft_sizes(named.state)._asdict()
    settings: dict[str, Any] = {**sizes, "corner_aligned": True}
    with torch.device("meta"):
        expected = EpipolarTransformer(**settings)
    _check(named.state, expected)
    settings["depth_range"] = _class("dfm_lightning.networks.epipolar.DepthRange", {"least": None})
    return named, _class("dfm_lightning.networks.epipolar.EpipolarTransformer", settings)


def _unet(content: Any) -> tuple[Named, dict[str, Any]]:
    named = name_unet(_state(content))
    sizes: dict[str, Any] = unet_sizes(named.state)._asdict()
    with torch.device("meta"):
        expected = LatentUNet(**sizes)
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in sizes.items()}
    _check(named.state, expected)
    return named, _class("dfm_lightning.networks.latent_unet.LatentUNet", settings)


def _codec(content: Any) -> tuple[dict[str, Tensor], list[int]]:
    """Convert the autoencoder's tensors by diffusers' own converter; return the channels of its levels too."""
    if not isinstance(content, Mapping) or not isinstance(content.get("state_dict"), Mapping):
        raise UserError(f"it holds no state_dict: expected {STABLE_DIFFUSION_FILE}, from {_VAE_URL}")
    state = content["state_dict"]
    for key in state:
        if not str(key).startswith(_VAE_PREFIX):
            raise UserError(f"it holds an unknown tensor {printable(str(key))}, besides {_VAE_PREFIX}*")
    state = {str(key).removeprefix(_VAE_PREFIX): value for key, value in state.items()}
    widths = _codec_widths(state)
    codec = StableDiffusionCodec(widths)
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    prefixed = {f"{_VAE_PREFIX}{key}": value for key, value in state.items()}
    converted = convert_ldm_vae_checkpoint(prefixed, dict(codec.network.config))
    if len(converted) != len(state):
        raise UserError(f"it holds {len(state)} tensors, of which {len(converted)} are those of the autoencoder")
    _check(converted, codec.network)
    return converted, widths


def _codec_widths(state: Mapping[str, Tensor]) -> list[int]:
    found = {
        int(match[1]): len(value)
        for key, value in state.items()
        if (match := re.fullmatch(r"encoder\.down\.(\d+)\.block\.0\.conv1\.weight", key))
    }
    if sorted(found) != list(range(len(found))) or not found:
        raise UserError(f"it is not {STABLE_DIFFUSION_FILE}: get it from {_VAE_URL}")
    return [found[level] for level in range(len(found))]


def _state(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or "model_state_dict" not in content:
        raise UserError("it holds no model_state_dict, as SparseFusion's checkpoints do")
    for name in content:
        if name not in _ENTRIES:
            raise UserError(f"it holds an unknown entry {printable(str(name))}, besides {', '.join(_ENTRIES)}")
    state = content["model_state_dict"]
    if not isinstance(state, Mapping):
        raise UserError("its model_state_dict is not a state of names and tensors")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise UserError(f"its model_state_dict holds {printable(str(key))}, which is not a tensor")
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"{printable(key)} holds numbers that are not finite")
    return dict(state)


def _check(state: Mapping[str, Tensor], expected: nn.Module) -> None:
    """Refuse a state that is not that of a module."""
    shapes = {key: tuple(value.shape) for key, value in expected.state_dict().items()}
    for key, value in state.items():
        if key not in shapes:
            raise UserError(f"it holds a tensor that would become {printable(key)}, which does not exist")
        if tuple(value.shape) != shapes[key]:
            raise UserError(
                f"the tensor that becomes {key} has shape {tuple(value.shape)}, expected {shapes[key]}"
            )
    missing = next((key for key in shapes if key not in state), None)
    if missing is not None:
        raise UserError(f"it lacks the tensor that becomes {missing}")


def _class(path: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"class_path": path, "init_args": arguments}


def _report(destination: Path, parts: Mapping[Path, Named], state: Mapping[str, Tensor]) -> list[str]:
    count = sum(value.numel() for value in state.values())
    lines = [f"{destination}: SparseFusion, {count / 1e6:.1f} million numbers in {len(state)} tensors"]
    for source, named in parts.items():
        for reason, keys in named.left_out.items():
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            lines.append(f"  left out of {source}: {keys[0]}{more}: {reason}")
    return lines
