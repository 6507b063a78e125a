"""The project's packages are those that belong together, whatever else is called like them."""

import importlib
import sys
from pathlib import Path

# What is installed beside this package.
_BESIDE = ("datamodules",)


def import_own_packages() -> None:
    """Import the packages that lie beside this one, so that no folder of that name elsewhere is taken for them.

    `python -m dfm_lightning` searches the working directory first, where users may well keep a `datamodules`.
    """
    folder = str(Path(__file__).parents[2])
    sys.path.insert(0, folder)
    try:
        for name in _BESIDE:
            importlib.import_module(name)
    finally:
        sys.path.remove(folder)
