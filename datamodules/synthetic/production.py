"""The common part of the writers of synthetic data: several processes, resumed where they stopped."""

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import track

from datamodules.hidden_looks import TRUTH_FILE
from dfm_lightning.errors import UserError
from dfm_lightning.files import write_json

Item = TypeVar("Item")


def produce(make: Callable[[Item], None], items: Sequence[Item], workers: int, title: str) -> None:
    """Make each item, in several processes if asked, and show progress."""
    pool = ProcessPoolExecutor(workers) if workers > 1 else nullcontext()
    with pool as executor:
        done: Iterable[None] = executor.map(make, items) if executor else map(make, items)
        try:
            for _ in track(done, title, total=len(items), disable=not items):
                pass
        except BaseException:
            if executor:
                executor.shutdown(wait=False, cancel_futures=True)  # cancel what has not started
            raise


def write_truth(root: Path, truth: dict[str, Any]) -> None:
    """Write the truth file, before all else: it records the settings that the folder's files belong to.

    If the root has one already, it must have the same settings.
    """
    path = root / TRUTH_FILE
    if not path.exists():
        write_json(path, truth)
    elif json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(truth)):
        raise UserError(
            f"{root} holds synthetic data of other settings ({path}): remove it or choose another folder"
        )
