"""The commands of `dfm convert`."""

from collections.abc import Callable

from dfm_lightning.checkpoints.from_original import convert_dfm
from dfm_lightning.checkpoints.from_sparsefusion import convert_sparsefusion, convert_stable_diffusion_codec
from dfm_lightning.checkpoints.shipped import export_weights
from dfm_lightning.checkpoints.stylegan2 import convert_stylegan2
from dfm_lightning.checkpoints.to_original import convert_to_dfm

# Each is a typed function whose docstring explains its parameters and which prints its results.
COMMANDS: dict[str, Callable[..., None]] = {
    "dfm": convert_dfm,
    "to-dfm": convert_to_dfm,
    "stylegan2": convert_stylegan2,
    "sparsefusion": convert_sparsefusion,
    "stable-diffusion-codec": convert_stable_diffusion_codec,
    "to-safetensors": export_weights,
}
