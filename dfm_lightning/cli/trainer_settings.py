"""Checks of the trainer's settings, so that impossible ones are refused at once."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.callbacks import ProgressBar

from dfm_lightning.cli.surroundings import Starter, check_processes, check_strategy
from dfm_lightning.errors import UserError
from dfm_lightning.ranges import check_above, check_at_least


def check_settings(config: dict[str, Any], starter: Starter | None) -> None:
    """Refuse settings that no trainer can have.

    Args:
        config: the trainer's settings.
        starter: what has started several processes, if anything.

    Raises:
        UserError: the processes or the strategy are impossible.
        ValueError: a number is out of range.
    """
    check_at_least(1, **_given(config, "accumulate_grad_batches", "check_val_every_n_epoch"))
    check_at_least(0, **_given(config, "gradient_clip_val", "log_every_n_steps", "min_steps", "min_epochs"))
    check_at_least(-1, **_given(config, "num_sanity_val_steps"))
    if not isinstance(config.get("val_check_interval"), (str, dict)):
        check_above(0, **_given(config, "val_check_interval"))
    check_strategy(config.get("strategy"))
    check_processes(starter, config.get("devices"), config.get("num_nodes"))


def check_numbers(settings: Any, name: str) -> None:
    """Refuse settings that are not a number (`.nan`), whatever class they are for: not all check them.

    Args:
        settings: those of a part of the config, with all that is in them.
        name: its dotted name.

    Raises:
        UserError: there is such a setting; the message has its dotted name.
    """
    if isinstance(settings, float) and math.isnan(settings):
        raise UserError(f"{name} is not a number: expected one, got {settings}")
    inner: Any = ()
    if isinstance(settings, dict):
        inner = settings.items()
    elif isinstance(settings, list):
        inner = enumerate(settings)
    for key, value in inner:
        check_numbers(value, name if key == "init_args" else f"{name}.{key}")


@contextmanager
def wrong_devices_named(config: dict[str, Any]) -> Iterator[None]:
    """Convert Lightning's error about impossible devices of a CPU to `UserError`."""
    try:
        yield
    except TypeError as error:
        if "`devices`" not in str(error):
            raise
        raise UserError(f"trainer.devices is {config.get('devices')!r}: {error}") from error


def wants_progress(config: dict[str, Any]) -> bool:
    """Tell whether the program's own progress bar is to be shown: not if it is turned off, or another is given."""
    given = config.get("callbacks") or []
    others = given if isinstance(given, list) else [given]
    return config.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in others)


def _given(config: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return some of the settings by their full names."""
    return {f"trainer.{name}": config.get(name) for name in names}
