"""The Python interface: models from checkpoints, samples to files, models to files."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import LightningModule

from dfm_lightning.callbacks import CodeWriter, MotionWriter, PredictionWriter, SceneWriter, TensorWriter
from dfm_lightning.checkpoints.shipped import find_checkpoint
from dfm_lightning.checkpoints.stored_config import load_weights, stored_config
from dfm_lightning.cli.messages import wrong_input_named, wrong_settings_named
from dfm_lightning.cli.parser import DfmParser
from dfm_lightning.cli.parts import import_parts
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file, whole_folder
from dfm_lightning.signals import Motion
from dfm_lightning.tasks import SampledCode, SampledScene
from dfm_lightning.types import Prediction
from dfm_lightning.weights_file import CONFIG_KEY

_WRITERS: dict[type, type[PredictionWriter]] = {
    Motion: MotionWriter,
    SampledCode: CodeWriter,
    SampledScene: SceneWriter,
}
# The attribute that keeps the config a model was loaded with.
_CONFIG = "loaded_config"


def load(path: str | Path, settings: Mapping[str, Any] | None = None, model: LightningModule | None = None) -> Any:
    """Load a model from a checkpoint, ready to draw samples, on the CPU and in evaluation mode.

    The config in the checkpoint describes the model; its weights are the averaged ones, if training averaged them.
    A checkpoint is data: its config is read as the command line reads configs, and its weights are tensors alone.

    Args:
        path: a checkpoint, a safetensors file of weights and config, or the name of a model that comes with the
            program.
        settings: settings that differ from the checkpoint's, by dotted name, as in `{"samples": 8,
            "sampler.steps": 25}`.
        model: a model of the same architecture to load the weights into, if the checkpoint has no config (a
            training from Python writes none). Without `settings`.

    Returns:
        A LightningModule, of the class that the config names.

    Raises:
        UserError: there is no such file, it is not a checkpoint, it holds no config, a setting does not exist, or
            the weights do not fit.
    """
    path = find_checkpoint(str(path))
    config = stored_config(path)
    if model is None:
        if "model" not in config:
            raise UserError(
                f"{path} holds weights without the config of their model: make the model and give it, as in "
                "load(path, model=my_model)"
            )
        described = _changed(config["model"], settings or {})
        model = _made(described)
        config = {**config, "model": described}
    elif settings:
        raise UserError("settings are those of a checkpoint's config: change the given model itself instead")
    with wrong_input_named():
        load_weights(model, path)
    setattr(model, _CONFIG, config)
    return model.eval()


def save(model: LightningModule, path: str | Path) -> None:
    """Save a model's weights as a checkpoint, with its config if it was loaded: for `load` and `--ckpt_path`.

    A model made in Python has no config; load its weights into another one made like it.
    """
    checkpoint = {
        "state_dict": model.state_dict(),
        CONFIG_KEY: getattr(model, _CONFIG, {}),
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "global_step": 0,
    }
    model.on_save_checkpoint(checkpoint)
    with whole_file(Path(path)) as aside:
        torch.save(checkpoint, aside)


def export(
    predictions: Iterable[Prediction],
    folder: str | Path,
    writer: type[PredictionWriter] | None = None,
    **settings: Any,
) -> list[Path]:
    """Write samples as `dfm predict` does: for a scene videos, frames, depth and cameras, for example.

    `export(samples, "samples", export=["mesh", "splats"])` writes scenes as meshes and Gaussian splats too.

    Args:
        predictions: the result of `draw` or `predictions`; an iterator is written sample by sample.
        folder: where to write; a sample's folder is `SCENE/sample_00` and so on, and replaces an existing one.
        writer: what to write with; by default what suits the kind of signal.
        settings: arguments of the writer, such as `frame_rate` or `export` (see `SceneWriter`).

    Returns:
        The folders of the samples.
    """
    folders = []
    for prediction in predictions:
        kind = writer or _WRITERS.get(type(prediction.signal), TensorWriter)
        writing = kind(str(folder), **settings)
        place = writing.folder(prediction.key, prediction.sample)
        with whole_folder(place) as empty:
            writing.write(prediction, empty)
        folders.append(place)
    return folders


def _made(described: dict[str, Any]) -> LightningModule:
    """Build the model that a config describes, by the command line's parser."""
    import_parts()
    parser = DfmParser()
    parser.add_subclass_arguments(LightningModule, "model", required=True)
    with wrong_settings_named():
        return parser.instantiate_classes(parser.parse_object({"model": described})).model


def _changed(described: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Change settings of a model's config, given by dotted names."""
    for name, value in settings.items():
        described = _with(described, name.split("."), value, name)
    return described


def _with(part: dict[str, Any], names: list[str], value: Any, whole: str) -> dict[str, Any]:
    arguments = part.get("init_args") or {}
    first, *rest = names
    if rest and not (isinstance(arguments.get(first), dict) and "class_path" in arguments[first]):
        raise UserError(f"There is no setting '{whole}': the model's config has {', '.join(sorted(arguments))}")
    inner = _with(arguments[first], rest, value, whole) if rest else value
    return {**part, "init_args": {**arguments, first: inner}}
