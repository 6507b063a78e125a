"""The commands of `dfm convert`."""

from collections.abc import Callable

from dfm_lightning.checkpoints.stylegan2 import convert_stylegan2

# Each a typed function whose docstring explains its parameters; it prints what there is to say.
COMMANDS: dict[str, Callable[..., None]] = {"stylegan2": convert_stylegan2}
