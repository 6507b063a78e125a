"""`dfm convert to-dfm`: convert a checkpoint of this program to one that the original DFM code loads."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dfm_lightning.checkpoints.from_original import KEPT_KEY
from dfm_lightning.checkpoints.original_file import AVERAGED, ONLINE, load_data
from dfm_lightning.checkpoints.original_layout import (
    BLOCKS_PER_VIEW,
    COLOUR_AND_DENSITY,
    LABEL_TABLE,
    LEVEL_BIAS,
    LEVELS,
    MLPS,
    Sizes,
)
from dfm_lightning.checkpoints.original_names import renamed_keys
from dfm_lightning.checkpoints.original_weights import OUR_LEVEL_BIAS, to_theirs
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file
from dfm_lightning.migrations import migrate_with_notice
from dfm_lightning.weights import check_finite
from dfm_lightning.weights_file import CONFIG_KEY

# Lightning's name for the weights that are not averaged.
CURRENT_KEY = "current_model_state"
# The name of KEPT_KEY in version 0.1.0.
EARLIER_KEPT_KEY = "authors_tensors"

DENOISER, ENCODER, ESTIMATE_RENDERER = (
    "model.denoiser",
    "model.denoiser.encoder",
    "model.denoiser.estimate_renderer",
)
# Settings that are fixed in their code: its value, and ours if a stored config does not mention it.
CLASSES = {
    "model.denoiser": "PixelNeRFDenoiser",
    "model.denoiser.encoder": "ImageEncoder",
    "model.forward_model": "VolumeRendering",
    "model.denoiser.estimate_renderer": "VolumeRendering",
    "model.process": "CosineProcess",
}
FIXED: dict[str, tuple[Any, Any]] = {
    "model.process.levels": (LEVELS, LEVELS),
    "model.forward_model.corner_aligned": (True, False),
    f"{ESTIMATE_RENDERER}.corner_aligned": (True, True),
    f"{DENOISER}.project_behind": (True, False),
    f"{DENOISER}.estimate_reduction": (1, 1),
    f"{DENOISER}.mlp_blocks_per_view": (BLOCKS_PER_VIEW, BLOCKS_PER_VIEW),
    f"{ENCODER}.position_grid": (None, None),
}
# Sizes that are hard-coded in their constructors: other ones need a changed line in their code.
WRITTEN_DOWN: dict[str, tuple[int, int]] = {
    f"{ENCODER}.width": (1152, 1152),
    f"{ENCODER}.depth": (28, 28),
    f"{ENCODER}.heads": (16, 16),
    f"{ENCODER}.feature_channels": (512, 512),
    f"{ENCODER}.estimate_features": (64, 64),
    f"{ENCODER}.stem_channels": (64, 64),
    f"{ENCODER}.skip_channels": (64, 64),
    f"{ENCODER}.patch": (2, 2),
    f"{DENOISER}.mlp_width": (512, 512),
    f"{DENOISER}.mlp_blocks": (5, 5),
    f"{DENOISER}.octaves": (6, 6),
}
BLACK = (0.0, 0.0, 0.0)


def convert_to_dfm(source: Path, destination: Path, resolution: int | None = None) -> None:
    """Convert a checkpoint of this program to one of the original DFM code.

    This works for models of inverse graphics that compute what theirs do, such as those of realestate10k_128.yaml
    and co3d_128.yaml; settings that cannot be expressed there are refused by name. See docs/checkpoints.md.

    Args:
        source: a checkpoint that `dfm fit` or `dfm convert dfm` wrote.
        destination: the file to write.
        resolution: height and width of the images, which their state holds position embeddings for; by default
            those of the training data.
    """
    if source.resolve() == destination.resolve():
        raise UserError(f"{destination} is the file to convert: give another name for the result")
    try:
        content = load_data(source)
        settings = _Settings(content, str(source))
        settings.check()
        for state in ("state_dict", CURRENT_KEY):
            check_finite(content.get(state, {}).items(), "the checkpoint")
        sizes = settings.sizes(resolution)
        averaged = _their_state(content, "state_dict", sizes, settings)
        raw = _their_state(content, CURRENT_KEY, sizes, settings) if CURRENT_KEY in content else averaged
    except UserError as error:
        raise UserError(f"{source} cannot be converted: {error}") from error
    with whole_file(destination) as aside:
        torch.save(_their_checkpoint(averaged, raw, int(content.get("global_step", 0))), aside)
    print(f"{destination}: a checkpoint of the original DFM code, {sizes.resolution}×{sizes.resolution} pixels")
    for note in settings.notes():
        print(f"  note: {note}")


class _Settings:
    """The settings that a checkpoint stores, looked up by their command-line names."""

    def __init__(self, content: Any, origin: str) -> None:
        if not isinstance(content, dict) or not isinstance(content.get("state_dict"), Mapping):
            raise UserError("it is not a checkpoint of this program: it has no state_dict")
        if not isinstance(content.get(CONFIG_KEY), dict) or "model" not in content[CONFIG_KEY]:
            raise UserError("it stores no config, which says what its weights mean")
        self.config: dict[str, Any] = migrate_with_notice(content[CONFIG_KEY], f"The config in {origin}")

    def get(self, name: str, default: Any) -> Any:
        """Return a setting; the default if it is not stored."""
        value: Any = {"init_args": self.config}
        for part in name.split("."):
            arguments = value.get("init_args") if isinstance(value, dict) else None
            if not isinstance(arguments, dict) or part not in arguments:
                return default
            value = arguments[part]
        return value

    def check(self) -> None:
        """Refuse settings that are fixed otherwise in their code."""
        for name, expected in CLASSES.items():
            part = self.get(name, None)
            path = part.get("class_path", "") if isinstance(part, dict) else ""
            if path.rpartition(".")[2] != expected:
                raise UserError(f"{name} is {path or 'not stored'}, the original code has {expected} only")
        for name, (expected, default) in FIXED.items():
            value = self.get(name, None)
            value = default if value is None else value
            if value != expected:
                raise UserError(f"{name} is {value}, the original code has {expected} only")

    def notes(self) -> Iterator[str]:
        """List the changes and inputs that their code needs to run this model."""
        for name, (expected, default) in WRITTEN_DOWN.items():
            value = self.get(name, default)
            if value != expected:
                yield f"{name} is {value}, where their constructors write down {expected}: change it there"
        near, far = (self.get(f"model.forward_model.{name}", None) for name in ("near", "far"))
        if near is not None and far is not None:
            yield f"near {near:g} and far {far:g} are not part of a state: set z_near and z_far of their data set"

    def sizes(self, resolution: int | None) -> Sizes:
        """Return the sizes of their model."""
        number = {name: int(self.get(name, default)) for name, (_, default) in WRITTEN_DOWN.items()}
        resolution = resolution or self.get("data.image_size", None)
        patch = number[f"{ENCODER}.patch"]
        if resolution is None:
            raise UserError("it does not state the size of its images: give --resolution")
        if resolution < 1 or resolution % (2 * patch):
            raise UserError(f"--resolution must be a multiple of {2 * patch}, got {resolution}")
        return Sizes(
            stage="diffusion",
            tokens=(resolution // (2 * patch)) ** 2,
            width=number[f"{ENCODER}.width"],
            depth=number[f"{ENCODER}.depth"],
            stem=number[f"{ENCODER}.stem_channels"],
            patch=patch,
            features=number[f"{ENCODER}.feature_channels"],
            skip=number[f"{ENCODER}.skip_channels"],
            mlp_width=number[f"{DENOISER}.mlp_width"],
            mlp_blocks=number[f"{DENOISER}.mlp_blocks"],
            octaves=number[f"{DENOISER}.octaves"],
            outputs=COLOUR_AND_DENSITY + number[f"{ENCODER}.estimate_features"],
            absolute_pose=bool(self.get(f"{ENCODER}.absolute_pose", False)),
        )

    def background(self) -> tuple[float, float, float]:
        """Return the background colour, which both renderers share."""
        red, green, blue = self.get("model.forward_model.background", None) or BLACK
        return red, green, blue


def _their_state(content: dict[str, Any], key: str, sizes: Sizes, settings: _Settings) -> dict[str, Tensor]:
    state = content[key]
    names = [*renamed_keys(sizes).values(), OUR_LEVEL_BIAS]
    names += [
        f"denoiser.{mlp}.{half}_in.weight"
        for mlp in MLPS["diffusion"].values()
        for half in ("position", "feature")
    ]
    for name in names:
        if not isinstance(state.get(name), Tensor):
            raise UserError(f"its {key} holds no tensor {name}, which a model of its settings has")
    kept = content.get(KEPT_KEY) or content.get(EARLIER_KEPT_KEY) or {}
    background = settings.background()
    return to_theirs(state, sizes, kept if {LABEL_TABLE, LEVEL_BIAS} <= set(kept) else {}, background)


def _their_checkpoint(averaged: dict[str, Tensor], raw: dict[str, Tensor], step: int) -> dict[str, Any]:
    """Build the file as their training writes it, without the optimizer, whose absence their loader accepts.

    It also lacks the averaging's `initted` and `step`, whose shapes differ between versions of ema-pytorch:
    further training there restarts the averages.
    """
    ema = {f"{ONLINE}{key}": value for key, value in raw.items()}
    ema |= {f"{AVERAGED}{key}": value for key, value in averaged.items()}
    return {"step": step, "model": raw, "ema": ema, "scaler": None, "version": "1.0.5"}
