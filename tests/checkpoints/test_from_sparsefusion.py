"""`dfm convert sparsefusion`: whole files of a small model, what is left out, what is refused."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from sparsefusion_reference import PRECISIONS, check, reference, state_by_recipe
from torch import Tensor

from dfm_lightning.checkpoints.from_sparsefusion import convert_sparsefusion, convert_stable_diffusion_codec
from dfm_lightning.checkpoints.stored_config import CONFIG_KEY, load_weights
from dfm_lightning.cli import main
from dfm_lightning.errors import UserError
from dfm_lightning.networks.epipolar import DepthRange, EpipolarTransformer
from dfm_lightning.networks.latent_codec import StableDiffusionCodec
from dfm_lightning.networks.latent_unet import LatentUNet
from dfm_lightning.tasks import LatentViews

NAMES = ("ckpt_latest_eft.pt", "ckpt_latest.pt", "sd-v1-3-vae.ckpt")


def eft_keys(width: int = 6) -> dict[str, list[int]]:
    """Those of the released transformer, with another width of the transformers."""

    def shape(key: str, released: list[int]) -> list[int]:
        if key.startswith("encoder_model"):
            return released
        inputs = {606: 606, 425: 169 + width, 412: 156 + width, 256: width, 768: 3 * width}
        return [inputs.get(side, side) for side in released]

    keys = reference()["eft_full_size"]["keys"]
    return {key: shape(key, released) for key, released in keys.items()}


@lru_cache(maxsize=1)
def autoencoder() -> dict[str, Tensor]:
    vae = reference()["vae_small"]
    return state_by_recipe(vae["keys"], vae["recipe_seed"])


def contents() -> list[dict[str, Any]]:
    unet = reference()["unet"]
    transformer = {key: torch.full(shape, 0.01) for key, shape in eft_keys().items()}
    return [
        {"step": 5, "model_state_dict": transformer},
        {"step": 5, "model_state_dict": dict(unet["state_dict"]), "optimizer": {}, "scheduler": {}},
        {"state_dict": {f"first_stage_model.{key}": value for key, value in autoencoder().items()}},
    ]


def write(folder: Path, files: list[dict[str, Any]]) -> list[Path]:
    paths = [folder / name for name in NAMES]
    for path, content in zip(paths, files, strict=True):
        torch.save(content, path)
    return paths


def widths(converted: Path) -> list[int]:
    """The channels of the autoencoder's levels."""
    state = torch.load(converted, weights_only=True)["state_dict"]
    name = "codec.network.encoder.down_blocks.{}.resnets.0.conv1.weight"
    return [len(state[name.format(level)]) for level in range(5) if name.format(level) in state]


def test_a_whole_model_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = write(tmp_path, contents())
    out = tmp_path / "out.ckpt"
    assert main(["convert", "sparsefusion", *map(str, paths), str(out)]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "encoder_model.layer4" in printed
    assert "null_conditional_embed" in printed
    checkpoint = torch.load(out, weights_only=True)
    settings = checkpoint[CONFIG_KEY]["model"]["init_args"]
    transformer = settings["transformer"]["init_args"]
    assert transformer.pop("depth_range")["init_args"] == {"least": None}
    assert transformer["corner_aligned"]
    assert settings["rays_at_corners"]
    sizes = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings["unet"]["init_args"].items()
    }
    unet = LatentUNet(**{**sizes, "condition_channels": 6})
    model = LatentViews.__new__(LatentViews)
    torch.nn.Module.__init__(model)
    model.transformer = EpipolarTransformer(**transformer, depth_range=DepthRange(least=None))
    model.unet = unet
    model.codec = StableDiffusionCodec(settings["codec"]["init_args"]["widths"])
    model.load_state_dict(checkpoint["state_dict"])
    case = reference()["unet"]
    _, tolerance = PRECISIONS["float32"]
    with torch.no_grad():
        found = unet.eval()(case["x"], case["cond"], case["float32"]["log_snr"])
    check(found, case["float32"]["output"], tolerance)


def test_the_autoencoder_alone_begins_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, vae = write(tmp_path, contents())
    out = tmp_path / "codec.ckpt"
    assert main(["convert", "stable-diffusion-codec", str(vae), str(out)]) == 0, capsys.readouterr().err
    model = LightningModule()
    model.codec = StableDiffusionCodec(widths(out))
    model.head = torch.nn.Linear(1, 1)
    before = model.head.weight.clone()
    assert load_weights(model, out, new_parts=True) == ["head"]
    assert torch.equal(model.head.weight, before)
    encoder = autoencoder()["encoder.conv_in.weight"]
    assert torch.equal(model.codec.network.encoder.conv_in.weight, encoder)
    with pytest.raises(UserError, match="another name"):
        convert_stable_diffusion_codec(vae, vae)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_autoencoder_is_stable_diffusions(tmp_path: Path, precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    out = tmp_path / "out.ckpt"
    convert_sparsefusion(*write(tmp_path, contents()), destination=out)
    state = torch.load(out, weights_only=True)["state_dict"]
    case = reference()["vae_small"]
    codec = StableDiffusionCodec([32, 64, 128, 128])
    codec.load_state_dict({k.removeprefix("codec."): v for k, v in state.items() if k.startswith("codec.")})
    codec = codec.to(dtype).eval()
    with torch.no_grad():
        latents = codec.encode(2 * case["image"].to(dtype) - 1)
        check(latents, case[precision]["latent_scaled"], tolerance)
        check(codec.decode(case[precision]["latent_scaled"]), case[precision]["decoded"], tolerance)


@pytest.mark.slow
def test_the_autoencoder_of_the_released_size_is_stable_diffusions(tmp_path: Path) -> None:
    case = reference()["vae_full_size"]
    state = state_by_recipe(case["keys"], case["recipe_seed"])
    vae, out = tmp_path / NAMES[2], tmp_path / "codec.ckpt"
    torch.save({"state_dict": {f"first_stage_model.{key}": value for key, value in state.items()}}, vae)
    convert_stable_diffusion_codec(vae, out)
    assert widths(out) == [128, 256, 512, 512]
    codec = StableDiffusionCodec(widths(out))
    converted = torch.load(out, weights_only=True)["state_dict"]
    codec.load_state_dict({key.removeprefix("codec."): value for key, value in converted.items()})
    codec, expected, stride = codec.double().eval(), case["float64"], case["decoded_stride"]
    with torch.no_grad():
        check(codec.encode(2 * case["image"].double() - 1), expected["latent_scaled"], 1e-9)
        check(codec.decode(expected["latent_scaled"])[..., ::stride, ::stride], expected["decoded"], 1e-9)


def drop(number: int, key: str) -> Any:
    def change(files: list[dict[str, Any]]) -> None:
        del files[number]["model_state_dict"][key]

    return change


def add(number: int, key: str, value: Tensor) -> Any:
    def change(files: list[dict[str, Any]]) -> None:
        files[number]["model_state_dict"][key] = value

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (drop(0, "t2_attn.weight"), r"ckpt_latest_eft\.pt.*depth_weight"),
        (drop(1, "unets.0.mid_attn.fn.fn.to_q.weight"), r"ckpt_latest\.pt.*middle_attention"),
        (add(0, "other.weight", torch.zeros(2)), r"other\.weight"),
        (add(1, "unets.0.final_conv.bias", torch.zeros(5)), r"output\.bias.*\(5,\)"),
        (add(1, "unets.0.final_conv.bias", torch.full((4,), torch.nan)), r"final_conv\.bias"),
        (lambda files: files[1].update(more=1), "more"),
        (lambda files: files[2].pop("state_dict"), r"sd-v1-3-vae\.ckpt.*huggingface"),
        (lambda files: files[2]["state_dict"].popitem(), r"sd-v1-3-vae\.ckpt"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(tmp_path: Path, change: Any, named: str) -> None:
    files = contents()
    change(files)
    out = tmp_path / "out.ckpt"
    with pytest.raises(UserError, match=named):
        convert_sparsefusion(*write(tmp_path, files), destination=out)
    assert not out.exists()


def test_a_missing_autoencoder_is_said_with_where_to_get_it(tmp_path: Path) -> None:
    paths = write(tmp_path, contents())
    paths[2].unlink()
    with pytest.raises(UserError, match="huggingface"):
        convert_sparsefusion(*paths, destination=tmp_path / "out.ckpt")


def test_code_in_a_file_is_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, contents())
    torch.save({"model_state_dict": {}, "step": Path("x")}, paths[0])
    with pytest.raises(UserError, match="code and not data"):
        convert_sparsefusion(*paths, destination=tmp_path / "out.ckpt")
