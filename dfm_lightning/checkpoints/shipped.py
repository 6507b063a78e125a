"""Trained models that come with the program, found by name, and the export of such files."""

from pathlib import Path

import torch
from torch import Tensor

from dfm_lightning.checkpoints.stored_config import read_checkpoint
from dfm_lightning.errors import UserError
from dfm_lightning.weights_file import CONFIG_KEY, PRETRAINED, SUFFIX, write_weights_file

# Lightning's own texts in a checkpoint.
_LIGHTNINGS = frozenset({"pytorch-lightning_version", "hparams_name"})
# The part of the training run's config that a shipped model keeps.
_KEPT = ("config_version", "seed_everything", "model", "data")


def shipped_models() -> dict[str, Path]:
    """List the trained models that come with the program by name."""
    return {path.stem: path for path in sorted(PRETRAINED.glob(f"*{SUFFIX}"))}


def find_checkpoint(name: str) -> Path:
    """Find the file meant by `--ckpt_path NAME`: a path, or the name of a model that comes with the program.

    Raises:
        UserError: `name` is neither; the message lists the shipped models.
    """
    path = Path(name)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path  # the reader reports any fault
    shipped = shipped_models()
    if name in shipped:
        return shipped[name]
    raise UserError(
        f"No checkpoint '{name}': there is no such file, and the models that come with the program are "
        f"{', '.join(shipped)}"
    )


def export_weights(
    source: Path, destination: Path, half: bool = False, averaged_with: list[Path] | None = None
) -> None:
    """Write the weights and the config of a checkpoint as one safetensors file, without the training's state.

    The averaged weights are taken if training averaged them. The result can be used like a checkpoint, except that
    no training can be resumed from it, only started with its weights.

    Args:
        source: a checkpoint of this program.
        destination: the .safetensors file to write.
        half: round weights to float16, which halves the file. They become float32 again when read.
        averaged_with: further checkpoints of the same model: the mean of all their weights is written, each
            counted once. Trainings that began with the same weights can share their gains so (model soups,
            Wortsman et al. 2022). Config and all else are those of `source`.
    """
    if destination.suffix != SUFFIX:
        raise UserError(f"{destination} must end in {SUFFIX}")
    content = read_checkpoint(source)
    stored = content.get(CONFIG_KEY, {})
    config = {name: stored[name] for name in _KEPT if name in stored}
    weights = content["state_dict"]
    if averaged_with:
        others = {path: read_checkpoint(path)["state_dict"] for path in averaged_with}
        weights = _mean_of({source: weights} | others)
    state = {
        name: value.half() if half and value.dtype == torch.float32 else value for name, value in weights.items()
    }
    overflown = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if overflown:
        raise UserError(f"{source}: {overflown[0]} holds numbers that are not finite, or too large for float16")
    # What a model adds in `on_save_checkpoint`, besides Lightning's own entries.
    beside = {name: value for name, value in content.items() if isinstance(value, str) and name not in _LIGHTNINGS}
    write_weights_file(destination, state, config, beside)
    size = destination.stat().st_size / 2**20
    print(f"{destination}: {len(state)} tensors, {size:.1f} MiB")


def _mean_of(states: dict[Path, dict[str, Tensor]]) -> dict[str, Tensor]:
    """Average the tensors of checkpoints by name; those that are no fractions must be equal."""
    (path, first), *others = states.items()
    for other, state in others:
        unlike = sorted(first.keys() ^ state.keys())
        unlike = unlike or [name for name, value in first.items() if value.shape != state[name].shape]
        if unlike:
            raise UserError(f"{other} holds another model than {path}: they differ in {unlike[0]}")
    mean = {}
    for name, value in first.items():
        each = [state[name] for state in states.values()]
        if value.is_floating_point():
            mean[name] = torch.stack([tensor.double() for tensor in each]).mean(dim=0).to(value.dtype)
        elif all(torch.equal(value, tensor) for tensor in each):
            mean[name] = value
        else:
            raise UserError(
                f"{name} of {', '.join(map(str, states))} has no mean: it holds whole numbers that differ"
            )
    return mean
