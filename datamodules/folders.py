"""Search folders for data: skip the files that operating systems add, and ignore the case of file endings."""

from pathlib import Path


def as_spelt(path: Path) -> Path:
    """Return the path, or the existing file whose ending differs from it in case only."""
    return next((file for file in find_files(path.parent, path.suffix.lower()) if file.stem == path.stem), path)


def find_files(folder: Path, *endings: str) -> list[Path]:
    """List the files of a folder that have one of the endings (".jpg", in any case), sorted by name.

    A missing folder has none. Names that begin with a dot (._000.jpg of macOS, .DS_Store) are not data.
    """
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.suffix.lower() in endings)
    return sorted(path for path in found if not path.name.startswith("."))
