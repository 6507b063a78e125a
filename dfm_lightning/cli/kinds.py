"""The classes that can be given for a part of a config, and their settings."""

import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.loggers import Logger

from dfm_lightning.diffusion import NoiseProcess, Sampler, Spacing
from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.optimizers import OptimizerSettings
from dfm_lightning.sampling import PredictingModule

# By the last word of a setting's dotted name.
KINDS: dict[str, type] = {
    "model": PredictingModule,
    "denoiser": SignalDenoiser,
    "forward_model": ForwardModel,
    "process": NoiseProcess,
    "sampler": Sampler,
    "spacing": Spacing,
    "optimizer": OptimizerSettings,
    "data": LightningDataModule,
    "callbacks": Callback,
    "logger": Logger,
}


def with_subclasses(base: type) -> Iterator[type]:
    """Return a class and all imported classes derived from it."""
    yield base
    children: list[type] = base.__subclasses__()
    for child in children:
        yield from with_subclasses(child)


def class_names(setting: str) -> list[str]:
    """Return the classes that can be given for a setting, by its dotted name; none if unknown."""
    base = KINDS.get(setting.rsplit(".", 1)[-1])
    if base is None:
        return []
    usable = [cls for cls in with_subclasses(base) if not inspect.isabstract(cls) and cls is not Callback]
    return sorted({cls.__name__ for cls in usable if not cls.__name__.startswith("_")})


def settings_within(setting: str) -> list[str]:
    """Return the settings of a group, or of the classes that can be given for a setting; none if unknown."""
    name = setting.rsplit(".", 1)[-1]
    if name in groups():
        return list(groups()[name])
    base = KINDS.get(name)
    if base is None or base in (Callback, Logger, LightningDataModule):  # (hundreds, of which few fit)
        return []
    found: dict[str, None] = {}
    for cls in with_subclasses(base):
        if cls.__module__.split(".")[0] == "dfm_lightning":
            found |= dict.fromkeys(inspect.signature(cls).parameters)
    return [name for name in found if name not in ("args", "kwargs")]


def groups() -> dict[str, dict[str, None]]:
    """List the groups of settings that data modules take, by name, each with its settings in order."""
    found: dict[str, dict[str, None]] = {}
    for cls in with_subclasses(LightningDataModule):
        for name, parameter in inspect.signature(cls).parameters.items():
            if is_dataclass(parameter.default):
                settings = dict.fromkeys(field.name for field in fields(parameter.default))
                found[name] = {**found.get(name, {}), **settings}
    return found
