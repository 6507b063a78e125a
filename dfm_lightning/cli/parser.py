"""The argument parser: its errors are one line, and unset parts of a model show their defaults."""

import argparse
import ast
import functools
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from dfm_lightning.cli.configs import shipped_configs
from dfm_lightning.cli.earlier_settings import with_current_settings
from dfm_lightning.cli.messages import readable
from dfm_lightning.cli.texts import keep_texts, with_texts
from dfm_lightning.errors import UserError

keep_texts()


class DfmParser(LightningArgumentParser):
    """A parser of configs and options, including those of earlier versions, whose errors are `UserError`s."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Class paths of model and data, for configs that name only their settings.
        self.classes: dict[str, str] = {}

    def parse_args(  # type: ignore[override]  # passes all arguments on, whatever they are
        self, args: Any = None, *others: Any, **settings: Any
    ) -> Namespace:
        """See `jsonargparse.ArgumentParser`."""
        # Options of a part come from an outer parser, which has read their values and spells them as Python does.
        if isinstance(args, list) and len(args) == 1 and "defaults" in settings:
            args = [_spelt_as_yaml(args[0])]
        return super().parse_args(args, *others, **settings)

    def parse_string(self, content: str, path: str | os.PathLike = "", *args: Any, **kwargs: Any) -> Namespace:
        """See `jsonargparse.ArgumentParser`."""
        content = with_current_settings(content, str(path) or "the config", self.classes)
        return super().parse_string(content, path, *args, **kwargs)

    def add_class_arguments(
        self, class_type: Any, nested_key: str | None = None, *args: Any, **kwargs: Any
    ) -> list[str]:
        """See `jsonargparse.ArgumentParser`."""
        added = super().add_class_arguments(class_type, nested_key, *args, **kwargs)
        for action in self._actions:
            if hasattr(action, "_typehint"):
                action._typehint = with_texts(action._typehint)
        # Spelt out, so that `--print_config` and the config in a checkpoint show what `None` stands for, and
        # `--model.sampler.steps 10` works with a config that names no sampler.
        prefix = f"{nested_key}." if nested_key else ""
        parts = getattr(class_type, "stock_parts", {})
        stock = {prefix + name: _as_config(part) for name, part in parts.items()}
        self.set_defaults({name: part for name, part in stock.items() if name in added})
        return added

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message, or pass it to an outer parser."""
        if not self.exit_on_error:
            super().error(message, ex)
        if "required: " in message and ".model" in message:
            shipped = ", ".join(shipped_configs())
            raise UserError(f"A config is missing: add --config NAME, a path or one of {shipped}.")
        raise UserError(readable(message, option_names(self)))


def _spelt_as_yaml(option: str) -> str:
    """Spell null and lists in an option's value as YAML does."""
    name, separator, text = option.partition("=")
    with suppress(ValueError, SyntaxError, TypeError):
        value = ast.literal_eval(text)
        if value is None or isinstance(value, list | dict):
            return f"{name}{separator}{json.dumps(value)}"
    return option


def _as_config(part: Any) -> dict[str, Any]:
    """Write a stock part as in a config: a class, or a class with some of its arguments."""
    if isinstance(part, functools.partial):
        kind: Any = part.func
        return {"class_path": path_of(kind), "init_args": dict(part.keywords)}
    return {"class_path": path_of(part)}


def path_of(kind: type) -> str:
    """Name a class as configs do: by the shortest path that it can be imported from.

    Configs and checkpoints therefore keep a part's name when it moves within its package.
    """
    package = ".".join(kind.__module__.split(".")[:2])
    exported = getattr(sys.modules.get(package), kind.__name__, None) is kind
    return f"{package if exported else kind.__module__}.{kind.__name__}"


def option_names(parser: argparse.ArgumentParser) -> set[str]:
    """List all options of a parser and of its subcommands, without dashes."""
    names = set()
    for action in parser._actions:
        names |= {option.lstrip("-") for option in action.option_strings}
        if isinstance(action, argparse._SubParsersAction):
            names = names.union(*map(option_names, action.choices.values()))
    return names


def add_functions(parser: DfmParser, functions: dict[str, Callable[..., None]]) -> None:
    """Make each function a subcommand: its required parameters positional, the others options."""
    subcommands = parser.add_subcommands()
    for name, function in functions.items():
        summary = (function.__doc__ or "").strip().splitlines()[0]
        child = DfmParser(description=summary)
        child.add_function_arguments(function, as_positional=True)
        subcommands.add_subcommand(name, child, help=summary)
