"""Explain in one line what is wrong with the user's input, and suggest what may have been meant."""

import difflib
import inspect
import itertools
import re
import traceback
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from dfm_lightning.cli.kinds import class_names, groups, settings_within, with_subclasses
from dfm_lightning.diffusion import Sampler
from dfm_lightning.errors import UserError
from dfm_lightning.migrations import migrated_option
from dfm_lightning.optimizers import OptimizerSettings

# Modules whose classes have settings that no config gives.
FOREIGN = ("torch", "torchvision", "torchmetrics", "timm", "kornia", "lpips", "diffusers")

# Lines of the parser's messages that list the alternatives tried instead of the fault.
SCAFFOLDING = (
    "Parser key",
    "Problem with given class_path",
    "Does not validate against",
    "Subtypes:",
    "Errors:",
    "Given value",
    "Expected a path but",
    "Expected a <class 'NoneType'>",
)
# Lines that say what would have been another way to write a part; a constructor's own complaint is worth more.
OTHER_FORMS = (
    "Not a valid subclass of",
    "Subclass types expect one of",
    "a class path (str)",
    "a dict with",
)
UNKNOWN_SETTING = (
    r"Option '(\S+)' is not accepted(?! before)",
    r"does not accept option '(\S+)'",
    r"unrecognized arguments: --([\w.]+)",
)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean '...'?" if a known word is close to the given one, else nothing."""
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


# System errors that do not come from files or disks.
_OF_PROCESSES = (ConnectionError, ChildProcessError, ProcessLookupError, BlockingIOError, TimeoutError)


def is_wrong_input(error: BaseException) -> bool:
    """Tell whether an error is due to the user's input or the environment, and no defect.

    File system errors count as such: missing files, full or read-only disks.
    """
    if isinstance(error, OSError):
        return error.errno is not None and not isinstance(error, _OF_PROCESSES)
    return isinstance(error, UserError)


@contextmanager
def wrong_input_named() -> Iterator[None]:
    """Convert Lightning's and torch's errors about the user's input to `UserError`."""
    try:
        yield
    except MisconfigurationException as error:  # a data module lacks a loader, say
        raise UserError(str(error)) from error
    except ValueError as error:  # more batches between validations than an epoch has
        if "val_check_interval" in str(error):
            raise UserError(f"trainer.val_check_interval does not fit the data: {readable(str(error))}") from error
        _refused_by_lightning(error)
        raise
    except RuntimeError as error:
        if "Error(s) in loading state_dict" in str(error):
            first = str(error).splitlines()[1].strip()
            raise UserError(f"The checkpoint's weights do not fit the model of the config: {first}") from error
        _refused_by_lightning(error)
        raise
    except AttributeError as error:
        _refused_by_lightning(error)
        raise


# Parts of Lightning that only a config puts into a run.
_CHOSEN_PARTS = {
    *(("pytorch", name) for name in ("callbacks", "loggers", "profilers", "tuner")),
    ("utilities", "model_summary"),
}


def _refused_by_lightning(error: Exception) -> None:
    """Raise `UserError` for an error that a part of Lightning chosen by the config raises on purpose, as for an
    unknown metric: its last frame is there, at a `raise`.
    """
    last = traceback.extract_tb(error.__traceback__)[-1]
    folders = Path(last.filename).parts
    chosen = any(pair in _CHOSEN_PARTS for pair in itertools.pairwise(folders))
    if chosen and (last.line or "").startswith("raise "):
        raise UserError(one_line(error)) from error


@contextmanager
def wrong_settings_named() -> Iterator[None]:
    """Convert a constructor's refusals to `UserError`."""
    try:
        yield
    except ImportError as error:  # of a package that a setting needs
        raise UserError(f"A setting needs a package that is not installed: {readable(str(error))}") from error
    except (ValueError, MisconfigurationException) as error:
        raise UserError(readable(str(error))) from error


def one_line(error: BaseException) -> str:
    """Return an error's message without line breaks."""
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror[:1].lower() + error.strerror[1:]
        where = "a file could not be read or written" if error.filename is None else error.filename
        return f"{where}: {reason}"
    text = str(error)
    if "Original Traceback" in text:
        # From a data loader's worker, which passes the whole traceback on as the message.
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())


def readable(message: str, options: Collection[str] = ()) -> str:
    """Turn a message of the argument parser into one line for people; `options` are the parser's."""
    keys = re.findall(r"Parser key \"([\w.]+)\"", message)
    for pattern in UNKNOWN_SETTING:
        match = re.search(pattern, message)
        if match:
            return unknown_setting(".".join([*keys, match[1].replace("init_args.", "")]), options)
    command = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
    if command:
        known = re.findall(r"[\w-]+", command[2])
        return f"There is no command '{command[1]}'; there are {', '.join(known)}.{nearest(command[1], known)}"
    if "Problems parsing config" in message:
        return " ".join(message.split())
    unknown = re.search(r"dot import path string: (\w+)\b", message)
    if unknown and keys:
        return _unknown_class(unknown[1], ".".join(keys))
    lines = [re.sub(r"^- ", "", line.strip()) for line in message.splitlines()]
    reasons = [_in_words(line) for line in lines if line and not line.startswith(SCAFFOLDING)]
    # A missing package is the reason why nothing else fits.
    reasons = [reason for reason in reasons if "Requirement" in reason] or reasons
    reasons = [reason for reason in reasons if not reason.startswith(OTHER_FORMS)] or reasons
    where = f"{'.'.join(keys)}: " if keys else ""
    return where + "; or ".join(dict.fromkeys(reasons)) + _given(message, reasons)


def unknown_setting(name: str, options: Collection[str]) -> str:
    """Describe a setting that does not exist, given by its dotted name."""
    now = migrated_option(name)
    if now != name:
        return f"There is no setting '{name}' any more: it is '{now}'."
    first, *rest = name.split(".")
    roots = {option.split(".")[0] for option in options}
    known = roots
    misspelt = first
    if first in roots:
        known = setting_names()
        misspelt = next((part for part in rest if part not in known), name)
    parent, _, last = name.rpartition(".")
    siblings = settings_within(parent) if first in roots else ()
    if siblings:
        hint = nearest(last, siblings) or f" {parent} has {', '.join(siblings)}."
    else:
        hint = nearest(misspelt, known)
    return f"There is no setting '{name}'.{hint}"


def setting_names() -> set[str]:
    """List the names of all settings: constructor arguments of the trainer and of everything that a config can
    hold.
    """
    names = {"class_path", "init_args"}
    for base in (Trainer, nn.Module, LightningDataModule, Callback, Logger, Sampler, OptimizerSettings):
        for known in with_subclasses(base):
            if known.__module__.split(".")[0] not in FOREIGN:
                names |= set(inspect.signature(known).parameters)
    return names.union(*groups().values()) - {"args", "kwargs"}


def missing_class(option: str) -> str:
    """Describe `--SETTING.help` without a class."""
    setting = option.lstrip("-").removesuffix(".help")
    names = class_names(setting)
    known = f": one of {', '.join(names)}" if names else ""
    example = names[0] if names else "CLASS"
    return f"{option} needs the class whose settings it is to show, as in {option}={example}{known}."


def _unknown_class(name: str, where: str) -> str:
    names = class_names(where)
    known = f"; there are {', '.join(names)}." if names else "."
    return (
        f"{where}: there is no class '{name}'{known}{nearest(name, names)} "
        f"One of your own is given with its module, as in my_problem.{name}."
    )


def _in_words(line: str) -> str:
    line = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", line)
    line = re.sub(r"typing\.Literal\[(.*?)\]", r"one of \1", line)
    line = re.sub(r"^Expected (?:an? )?", "expected ", line)
    line = re.sub(r"\. Got value: (.*)$", r", got '\1'", line)
    return re.sub(r"^the following arguments are required: (.*)$", r"\1 is required", line)


def _given(message: str, reasons: list[str]) -> str:
    value = re.search(r"Given value: (.*)", message)
    if value is None or "got" in "".join(reasons) or re.search(r"[({]", value[1]):
        return ""
    return f"; got '{value[1]}'"
