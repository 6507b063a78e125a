"""Finding the configs that come with the program by their name."""

from pathlib import Path

import dfm_lightning
from dfm_lightning.cli.messages import nearest
from dfm_lightning.errors import UserError


def shipped_folder() -> Path:
    """Where the shipped configs lie: inside the package when installed, beside it in a checkout."""
    package = Path(dfm_lightning.__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def shipped_configs() -> dict[str, Path]:
    """The shipped configs by name: the path in their folder, without `.yaml`."""
    folder = shipped_folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def find_config(name: str) -> Path:
    """The file meant by `--config NAME`: a path if there is such a file, else the name of a shipped config.

    Raises:
        UserError: there is neither; the message lists the shipped ones.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = shipped_configs()
    known = shipped.get(name.removesuffix(".yaml"))
    if known is not None:
        return known
    hint = nearest(name.removesuffix(".yaml"), shipped)
    raise UserError(
        f"No config '{name}': there is no such file, and the shipped ones are {', '.join(shipped)}.{hint}"
    )


def with_config_paths(arguments: list[str]) -> list[str]:
    """The arguments with every `--config NAME` (or `-c NAME`, `--config=NAME`) naming a file."""
    found = []
    names_config = False
    for argument in arguments:
        option, separator, name = argument.partition("=")
        if names_config:
            found.append(str(find_config(argument)))
        elif option == "--config" and separator:
            found.append(f"--config={find_config(name)}")
        else:
            found.append(argument)
        names_config = not names_config and argument in ("-c", "--config")
    return found


def name_of_run(arguments: list[str]) -> str:
    """What to call a run: its first config, without folder and ending; "dfm" without a config."""
    for index, argument in enumerate(arguments):
        if argument in ("-c", "--config") and index + 1 < len(arguments):
            return Path(arguments[index + 1]).stem
        if argument.startswith("--config="):
            return Path(argument.removeprefix("--config=")).stem
    return "dfm"
