"""Import this project's packages from the same place, even if others have their names."""

import importlib
import sys
from pathlib import Path

# The packages installed beside this one.
_BESIDE = ("datamodules",)


def import_own_packages() -> None:
    """Import the packages beside this one, before a folder elsewhere with such a name is imported instead.

    `python -m dfm_lightning` searches the working directory first, where users may well have a `datamodules`.
    """
    folder = str(Path(__file__).parents[2])
    sys.path.insert(0, folder)
    try:
        for name in _BESIDE:
            importlib.import_module(name)
    finally:
        sys.path.remove(folder)
