"""Looking into folders: what operating systems leave there is no data, and endings are in any case."""

from pathlib import Path


def as_spelt(path: Path) -> Path:
    """The file whose ending is spelt in another case than a path that is not there, or the path itself."""
    return next((file for file in find_files(path.parent, path.suffix.lower()) if file.stem == path.stem), path)


def find_files(folder: Path, *endings: str) -> list[Path]:
    """The files of a folder with one of the endings (".jpg", in any case), by name; none where there is no folder.

    Names that begin with a dot (._000.jpg of macOS, .DS_Store) are not data.
    """
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.suffix.lower() in endings)
    return sorted(path for path in found if not path.name.startswith("."))
