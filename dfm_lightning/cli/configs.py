"""Find shipped configs by name."""

import codecs
from pathlib import Path

import dfm_lightning
from dfm_lightning.cli.messages import nearest
from dfm_lightning.errors import UserError

# First bytes of files in other encodings. (UTF-32's mark begins with UTF-16's.)
_OTHER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
# Endings of files whose name may stand for the settings in them, as in `--data mine.yaml`.
_ENDINGS = (".yaml", ".yml", ".json")


def shipped_folder() -> Path:
    """Return the folder of the shipped configs: inside the package when installed, beside it in a checkout."""
    package = Path(dfm_lightning.__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def shipped_configs() -> dict[str, Path]:
    """Return the shipped configs by name: the path in their folder, without `.yaml`."""
    folder = shipped_folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def find_config(name: str) -> Path:
    """Find the file meant by `--config NAME`: a path if there is such a file, else the name of a shipped config.

    Raises:
        UserError: there is neither; the message lists the shipped ones.
    """
    if Path(name).is_file():
        check_encoding(Path(name))
        return Path(name)
    shipped = shipped_configs()
    known = shipped.get(name.removesuffix(".yaml"))
    if known is not None:
        return known
    hint = nearest(name.removesuffix(".yaml"), shipped)
    raise UserError(
        f"No config '{name}': there is no such file, and the shipped ones are {', '.join(shipped)}.{hint}"
    )


def check_encoding(path: Path) -> None:
    """Refuse a file of settings that is not UTF-8 (with a byte order mark or without).

    Raises:
        UserError: it is not; the message names its encoding if that can be recognised.
    """
    content = path.read_bytes()
    other = next((name for mark, name in _OTHER_MARKS if content.startswith(mark)), None)
    remedy = "save it as UTF-8"
    if other is not None:
        raise UserError(f"{path} is {other}; settings are read as UTF-8: {remedy}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not UTF-8: line {line} holds the byte 0x{content[error.start]:02x}; {remedy}"
        ) from error
    if "\0" in text:
        raise UserError(f"{path} holds zero bytes, as UTF-16 and binary files do; {remedy}")


def with_config_paths(arguments: list[str]) -> list[str]:
    """Replace each NAME in `--config NAME` (or `-c NAME`, `--config=NAME`) by the path of the file it means."""
    found = []
    names_config = False
    for argument in arguments:
        option, separator, name = argument.partition("=")
        if names_config:
            found.append(str(find_config(argument)))
        elif option == "--config" and separator:
            found.append(f"--config={find_config(name)}")
        else:
            value = Path(name if separator else argument)
            if value.suffix in _ENDINGS and value.is_file():
                check_encoding(value)
            found.append(argument)
        names_config = not names_config and argument in ("-c", "--config")
    return found


def name_of_run(arguments: list[str]) -> str:
    """Return the name of a run: its first config, without folder and ending; "dfm" without a config."""
    for index, argument in enumerate(arguments):
        if argument in ("-c", "--config") and index + 1 < len(arguments):
            return Path(arguments[index + 1]).stem
        if argument.startswith("--config="):
            return Path(argument.removeprefix("--config=")).stem
    return "dfm"
