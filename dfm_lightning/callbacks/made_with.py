"""The record of how a result was made, for predictions and reports, so that old and new are never mixed."""

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from dfm_lightning.errors import UserError
from dfm_lightning.randomness import user_seed
from dfm_lightning.record import changes_between, contents_of
from dfm_lightning.sampling import as_predictor

# Version of the record beside each result. The first version lacked the forward model, and this number.
VERSION = 2

MadeWith = dict[str, Any]


def made_with(trainer: Trainer, model: LightningModule, **further: Any) -> MadeWith:
    """Collect everything that decides a sample besides the data, by name: seed, weights, precision, settings of
    the model.

    Args:
        trainer: runs the model.
        model: a `Predictor` with its weights loaded.
        further: what else a result depends on, by name.
    """
    weights = contents_of(dict(model.state_dict()))
    own = as_predictor(model, "a record of settings").settings()
    settings = {"seed": user_seed(), "weights": weights, "precision": str(trainer.precision)}
    # As read back from a file: lists for tuples, say.
    return json.loads(json.dumps({**settings, **own, **further}))


def is_stale(path: Path, stored: dict[str, Any], now: MadeWith, overwrite: bool) -> bool:
    """Tell whether a stored result was made with other settings.

    Args:
        path: the result, for the message.
        stored: the record beside it: `version` and `made_with`.
        now: the current record.
        overwrite: whether stale results are to be replaced.

    Raises:
        UserError: it was, and is not to be replaced; the message names the differences.
    """
    if stored.get("version") != VERSION:
        reason = "was written by another version of this program, which recorded other settings"
    else:
        changes = changes_between(stored["made_with"], now)
        if not changes:
            return False
        reason = f"was made with other settings ({changes})"
    if not overwrite:
        raise UserError(f"{path} {reason}: choose another output folder, or set overwrite to true")
    return True
