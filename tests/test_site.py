"""The documentation builds as a site, strictly and without network; its pages load nothing from elsewhere."""

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

mkdocs_build = pytest.importorskip("mkdocs.commands.build")
mkdocs_config = pytest.importorskip("mkdocs.config")
pytest.importorskip("mkdocstrings")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")

    def refuse(*args: object) -> None:
        raise OSError("no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        config = mkdocs_config.load_config(
            str(ROOT / "docs" / "site" / "mkdocs.yml"), site_dir=str(folder), strict=True
        )
        build: Callable[..., None] = mkdocs_build.build
        build(config)
    return folder


@pytest.mark.slow
def test_guides_notes_and_reference_are_there(site: Path) -> None:
    pages = {path.parent.relative_to(site).as_posix() for path in site.rglob("index.html")}
    guides = {path.stem for path in (ROOT / "docs").glob("*.md")}
    notes = {f"notes/{path.stem}" for path in (ROOT / "docs" / "notes").glob("*.md")}
    assert guides | notes | {"ARCHITECTURE", "CONTRIBUTING", "CHANGELOG"} <= pages
    reference = (site / "reference" / "dfm_lightning.sampling" / "index.html").read_text()
    assert "predict_draws" in reference
    assert "draw_batch" in reference


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r"<(?:script|img|link)[^>]*(?:src|href)=[\"']?(?:https?:)?//", re.I)
    guilty = [
        path.relative_to(site).as_posix() for path in site.rglob("*.html") if loaded.search(path.read_text())
    ]
    assert guilty == []
