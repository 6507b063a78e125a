"""The classes that a config can name."""

import importlib
import pkgutil

import datamodules
from dfm_lightning import callbacks, denoisers, diffusion, forward_models, losses, networks, tasks
from dfm_lightning.diffusion import reward_guidance, samplers, zero_shot
from dfm_lightning.forward_models import linear


def import_parts() -> None:
    """Import everything that a config can name, so that classes are found by name and `--help` lists them."""
    families = (samplers, zero_shot, reward_guidance, linear)
    for package in (
        callbacks,
        datamodules,
        denoisers,
        diffusion,
        forward_models,
        losses,
        networks,
        tasks,
        *families,
    ):
        modules = list(pkgutil.iter_modules(package.__path__, f"{package.__name__}."))
        for module in sorted(modules, key=lambda module: not module.ispkg):
            if module.name != "datamodules.synthetic":
                importlib.import_module(module.name)
