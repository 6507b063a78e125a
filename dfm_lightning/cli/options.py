"""The options of `dfm` that belong to neither model, data nor trainer."""

from typing import Literal

from jsonargparse import ActionConfigFile, ArgumentParser

from dfm_lightning.checkpoints.shipped import shipped_models
from dfm_lightning.cli.configs import shipped_configs
from dfm_lightning.errors import UserError
from dfm_lightning.exports import KINDS, Export
from dfm_lightning.migrations import CONFIG_VERSION, VERSION_KEY

SEED = 0
# NumPy takes none above it.
GREATEST_SEED = 2**32 - 1


def add_options(parser: ArgumentParser) -> None:
    """Add the options of one of Lightning's commands."""
    parser.add_argument(
        "-c",
        "--config",
        action=ActionConfigFile,
        help="YAML file with settings: a path, or the name of a shipped config "
        f"({', '.join(shipped_configs())}). Of several, the later win.",
    )
    parser.add_argument(
        f"--{VERSION_KEY}",
        type=Literal[CONFIG_VERSION],
        default=CONFIG_VERSION,
        help="Version of the names and places of settings. Configs of earlier versions are read all the same.",
    )
    parser.add_argument("--seed_everything", type=int, default=SEED, help="Seed of all that is drawn at random.")
    parser.add_argument(
        "--ckpt_path",
        type=str | None,
        help=f"Checkpoint: a path, or the name of a shipped model ({', '.join(shipped_models())}). `fit` "
        "continues the training that wrote it (where it holds weights only: begins with them), the other "
        "commands use its weights (the averaged ones, if training averaged them). It decides the model's "
        "architecture.",
    )
    parser.add_argument(
        "--initial_weights",
        type=str | None,
        help="Checkpoint whose weights (the averaged ones, if training averaged them) a new training begins "
        "with, as in fine-tuning; nothing else of it, neither its step nor its optimizer. It decides the "
        "model's architecture. Only `fit` uses it, and only where no --ckpt_path continues a training.",
    )
    parser.add_argument(
        "--new_parts",
        type=bool,
        default=False,
        help="Let the config decide the architecture, not --initial_weights: parts of the model that the "
        "weights lack begin untrained.",
    )
    parser.add_argument(
        "--export",
        type=str | None,
        help="What `predict` writes scenes as besides videos and frames, separated by commas: "
        f"{', '.join(KINDS)}. See docs/exports.md.",
    )
    parser.add_argument(
        "--next_observation",
        type=bool,
        default=False,
        help="Let `predict` say which observation of each scene to make next (which camera, which pixel): "
        "where samples disagree most. See docs/sampling.md.",
    )


def export_kinds(given: str) -> list[Export]:
    """Return the formats that `--export` names. `UserError` if there is no such format."""
    names = [name.strip() for name in given.split(",")]
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise UserError(f"--export knows {', '.join(KINDS)}, got '{', '.join(unknown)}'")
    return [kind for kind in KINDS if kind in names]
