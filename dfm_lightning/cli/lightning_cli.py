"""`dfm fit|validate|test|predict`: LightningCLI with the conventions of this program."""

import os
import re
import sys
from pathlib import Path
from typing import Any

# Before there is a process group: otherwise default arguments in it keep the group alive.
import torch.distributed.nn.functional  # noqa: F401
import yaml
from jsonargparse import set_parsing_settings
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from dfm_lightning import __version__
from dfm_lightning.callbacks import SceneWriter
from dfm_lightning.callbacks.progress import TimeLeft
from dfm_lightning.checkpoints.shipped import find_checkpoint
from dfm_lightning.checkpoints.stored_config import holds_weights_only, load_weights, stored_config
from dfm_lightning.cli.architecture import EmbedConfig, architecture_of, differences
from dfm_lightning.cli.chatter import silence_chatter
from dfm_lightning.cli.commands import (
    GROUPS,
    REPORT,
    REPORT_SUMMARY,
    VIEW,
    VIEW_SUMMARY,
    report_parser,
    view_parser,
)
from dfm_lightning.cli.configs import name_of_run
from dfm_lightning.cli.earlier_settings import classes_of, with_current_options
from dfm_lightning.cli.messages import missing_class, wrong_input_named, wrong_settings_named
from dfm_lightning.cli.next_observation import choose_next
from dfm_lightning.cli.options import GREATEST_SEED, SEED, add_options, export_kinds
from dfm_lightning.cli.parser import DfmParser, add_functions
from dfm_lightning.cli.parts import import_parts
from dfm_lightning.cli.precision import warn_of_slow_precision
from dfm_lightning.cli.step_end import EndAfterStep
from dfm_lightning.cli.surroundings import check_processes, find_starter, say_processes
from dfm_lightning.cli.termination import current_termination
from dfm_lightning.cli.trainer_settings import check_numbers, check_settings, wants_progress, wrong_devices_named
from dfm_lightning.cli.tune_sampler import TUNE, TUNE_SUMMARY, run_tuning
from dfm_lightning.errors import UserError
from dfm_lightning.training import guarded
from dfm_lightning.training.notices import newest_checkpoint
from dfm_lightning.tuning import Tuning

COMMANDS = {
    "fit": "Train a model.",
    "validate": "Compute the training losses on held-out scenes.",
    "test": "Draw samples for the test scenes and measure them.",
    "predict": "Draw samples for scenes and write them to files.",
}
# Arguments of the trainer's methods that are not taken from its signature.
FIXED = {
    "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "ckpt_path", "weights_only"},
    "validate": {"model", "dataloaders", "datamodule", "ckpt_path", "weights_only"},
    "test": {"model", "dataloaders", "datamodule", "ckpt_path", "weights_only"},
    "predict": {"model", "dataloaders", "datamodule", "ckpt_path", "weights_only", "return_predictions"},
}
DESCRIPTION = """Diffusion with forward models: sample signals that nobody ever observed.
`dfm fit --help` lists the settings, `dfm fit --model.help CLASS` those of a model, a data set or a part of them.
With DFM_DEBUG=1, wrong input shows a traceback."""


def run_lightning(arguments: list[str]) -> None:
    """Run one of Lightning's commands; the configs among the arguments are already paths."""
    silence_chatter()
    import_parts()
    refuse_help_without_class(arguments)
    set_parsing_settings(add_print_completion_argument=True)
    logger = {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "runs", "name": name_of_run(arguments)}}
    with wrong_input_named():
        DfmCLI(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_kwargs={"overwrite": True},
            # Models decide whether drawing takes gradients: inference mode would rule them out.
            trainer_defaults={"logger": logger, "inference_mode": False},
            seed_everything_default=SEED,
            parser_class=DfmParser,
            parser_kwargs={"prog": "dfm", "description": DESCRIPTION},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=arguments,
        )


def refuse_help_without_class(arguments: list[str]) -> None:
    """Refuse `--SETTING.help` without a class, for which the parser's own message is no help.

    Raises:
        UserError: the class is missing; the message lists the classes.
    """
    for option, following in zip(arguments, [*arguments[1:], "-"], strict=True):
        if re.fullmatch(r"--[\w.]+\.help", option) and following.startswith("-"):
            raise UserError(missing_class(option))


class DfmCLI(LightningCLI):
    """LightningCLI in which options override configs, configs override defaults, and a checkpoint decides only the
    architecture.
    """

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Make the parser of `dfm` or of one of its commands."""
        return DfmParser(dump_header=[f"dfm-lightning=={__version__}"], version=__version__, **kwargs)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the arguments that do not belong to model, data or trainer."""
        add_options(parser)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return Lightning's commands, and the arguments that each leaves out."""
        return FIXED

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Add Lightning's commands, and ours, which `main` runs itself, for `--help` and completion."""
        self._subcommand_method_arguments = {}
        self._subcommand_parsers = {}
        commands = parser.add_subcommands()
        for name, summary in COMMANDS.items():
            self._subcommand_parsers[name] = self._prepare_subcommand_parser(Trainer, name, description=summary)
            commands.add_subcommand(name, self._subcommand_parsers[name], help=summary)
        self._subcommand_parsers[TUNE] = self._tuning_parser(**kwargs)
        commands.add_subcommand(TUNE, self._subcommand_parsers[TUNE], help=TUNE_SUMMARY)
        for name, group in GROUPS.items():
            child = DfmParser(description=group.summary)
            commands.add_subcommand(name, child, help=group.summary)
            add_functions(child, group.functions)
        commands.add_subcommand(VIEW, view_parser(), help=VIEW_SUMMARY)
        commands.add_subcommand(REPORT, report_parser(), help=REPORT_SUMMARY)

    def _tuning_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = self.init_parser(description=TUNE_SUMMARY, **kwargs)
        self._add_arguments(parser)
        parser.add_class_arguments(Tuning, "tune")
        self._subcommand_method_arguments[TUNE] = []
        return parser

    def _run_subcommand(self, subcommand: str) -> None:
        """Run one of Lightning's commands, or ours."""
        if subcommand != TUNE:
            super()._run_subcommand(subcommand)
        elif self.trainer.is_global_zero:
            settings = self.config_init[TUNE]
            run_tuning(self.model, self.datamodule, self.trainer, settings.tune, settings.ckpt_path)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add no arguments, but keep shell completion from offering thousands of settings inside PyTorch's
        strategies.
        """
        for action in parser._actions:
            if action.dest == "trainer.strategy":
                # (shtab reads this attribute.)
                action.complete = {}  # type: ignore[attr-defined]

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments into `self.config`."""
        classes = classes_of(args)
        for subcommand in self._subcommand_parsers.values():
            assert isinstance(subcommand, DfmParser)
            subcommand.classes = classes
        self.config = parser.parse_args(with_current_options(args, classes))
        settings = self.config[self.config.subcommand]
        if settings.get("export") is not None and self.config.subcommand != "predict":
            raise UserError(f"--export is for dfm predict: dfm {self.config.subcommand} writes no scenes")
        if settings.get("next_observation") and self.config.subcommand != "predict":
            raise UserError(f"--next_observation is for dfm predict: dfm {self.config.subcommand} ranks nothing")
        for name in ("ckpt_path", "initial_weights"):
            if settings.get(name) is not None:
                settings[name] = str(find_checkpoint(settings[name]))

    def _parse_ckpt_path(self) -> None:
        """Lay the architecture from a checkpoint, and nothing else of it, over the config."""
        command = self.config.subcommand
        path = self.config[command].get("ckpt_path")
        if path is None and command == "fit" and not self.config.fit.new_parts:
            path = self.config.fit.get("initial_weights")
        if path is None:
            if command != "fit":
                _say("There is no --ckpt_path: the model has its initial weights, untrained.")
            return
        before = self._settings()
        architecture = architecture_of(stored_config(Path(path)), before)
        if not architecture:
            return
        self.config = self.parser.parse_object({command: architecture}, self.config)
        changes = differences(before, self._settings())
        if changes:
            _say(f"The architecture is the checkpoint's, not the config's: {', '.join(changes)}")

    def before_fit(self) -> None:
        """Load the initial weights of a new training."""
        settings = self.config_init.fit
        path = settings.ckpt_path or settings.initial_weights
        if path is None or (settings.ckpt_path and not holds_weights_only(Path(path))):
            return
        new = load_weights(self.model, Path(path), settings.new_parts and not settings.ckpt_path)
        if new:
            _say(f"Untrained parts, which {path} lacks: {', '.join(new)}")
        if settings.ckpt_path:
            _say(f"{path} holds weights only: a new training starts from them.")

    def _settings(self) -> dict[str, Any]:
        """Return all settings of the command, resolved, as primitives."""
        text = self.parser.dump(self.config, skip_link_targets=False, skip_unset=False, format="yaml")
        return yaml.safe_load(text)[self.config.subcommand]

    def _set_seed(self) -> None:
        """Seed every generator, including those of data loaders' workers."""
        seed = self._get(self.config, "seed_everything")
        if not 0 <= seed <= GREATEST_SEED:
            raise UserError(f"seed_everything must be within 0 and {GREATEST_SEED}, got {seed}")
        seed_everything(seed, workers=True, verbose=False)

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; report what a constructor refuses as the user's mistake."""
        with wrong_settings_named():
            super().instantiate_classes()

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Build the trainer, with the callbacks of every run."""
        settings = self._settings()
        check_numbers(settings["trainer"], "trainer")
        callbacks = [*callbacks, EmbedConfig(settings)]
        termination = current_termination()
        if termination is not None:
            callbacks.append(EndAfterStep(termination))
        if wants_progress(config):
            callbacks.append(TimeLeft())
        starter = None if config.get("plugins") else find_starter()  # (a plugin may decide who starts processes)
        check_settings(config, starter)
        with wrong_devices_named(config):
            trainer = super()._instantiate_trainer(config, callbacks)
        check_processes(starter, trainer.num_devices, trainer.num_nodes)
        say_processes(trainer, starter)
        warn_of_slow_precision(trainer)
        return guarded(trainer)

    def after_fit(self) -> None:
        """Name the checkpoint that the other commands need."""
        path = newest_checkpoint(self.trainer)
        if path is not None and self.trainer.is_global_zero:
            print(f"checkpoint: {os.path.relpath(path)}")

    def before_predict(self) -> None:
        """Refuse to predict without a writer, which draws the samples; tell it what to export."""
        # (Lightning sets the attribute without declaring it.)
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        if not any(map(takes_predictions, callbacks)):
            raise UserError(
                "Nothing would be written: the config needs a writer, as in "
                "trainer: {callbacks: [{class_path: TensorWriter, init_args: {output: predictions}}]}"
            )
        if (given := self.config_init.predict.export) is not None:
            writers = [c for c in callbacks if isinstance(c, SceneWriter)]
            if not writers:
                raise UserError("--export is for scenes, which SceneWriter writes; the config has another writer")
            writers[0].export = export_kinds(given)
        if self.config_init.predict.next_observation:
            choose_next(self.model, self.trainer)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Return the arguments of the trainer's method."""
        arguments = super()._prepare_subcommand_kwargs(subcommand)
        arguments["ckpt_path"] = path = self.config_init[subcommand].ckpt_path
        if subcommand == "fit" and path is not None and holds_weights_only(Path(path)):
            arguments["ckpt_path"] = None  # `before_fit` has loaded it
        arguments["weights_only"] = True  # a checkpoint is data, never code
        if subcommand == "predict":
            arguments["return_predictions"] = False  # they go to files, not into memory
        return arguments


def takes_predictions(callback: Callback) -> bool:
    """Tell whether a callback receives predictions, and is more than a progress bar."""
    return not isinstance(callback, ProgressBar) and (
        type(callback).on_predict_batch_end is not Callback.on_predict_batch_end
    )


@rank_zero_only
def _say(line: str) -> None:
    print(line, file=sys.stderr)
