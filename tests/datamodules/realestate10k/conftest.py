"""Small synthetic rooms, written once, and copies of them that a test may damage."""

import shutil
from pathlib import Path

import pytest
from small_rooms import write_chunks, write_mat, write_small_rooms


@pytest.fixture(scope="session")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official form: camera text files with folders of frames."""
    root = tmp_path_factory.mktemp("rooms") / "root"
    write_small_rooms(root)
    return root


@pytest.fixture(scope="session")
def chunked_rooms(rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rooms") / "chunks"
    write_chunks(rooms, root)
    return root


@pytest.fixture(scope="session")
def mat_rooms(rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rooms") / "mat"
    write_mat(rooms, root)
    return root


@pytest.fixture
def own_rooms(rooms: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rooms, tmp_path / "own"))


@pytest.fixture
def own_chunks(chunked_rooms: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(chunked_rooms, tmp_path / "own"))


@pytest.fixture
def own_mat(mat_rooms: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mat_rooms, tmp_path / "own"))
