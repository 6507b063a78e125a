"""Pages of the site that are not in docs/: those at the top level, and a reference page for each package."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
TOP_LEVEL = {"README.md": "index.md"} | {
    name: name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
}
PACKAGES = ("dfm_lightning", "datamodules")
# Files that the site does not show; links to them become plain text.
_OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./)*(?:LICENSE|Makefile|configs|examples|tests|benchmarks)[^)]*\)")


def reference_pages() -> dict[str, str]:
    """Return the reference pages by path: the modules of each package, and each subpackage on its own page."""
    pages = {}
    for package in PACKAGES:
        folders = [ROOT / package, *(path.parent for path in (ROOT / package).rglob("__init__.py"))]
        for folder in sorted(set(folders)):
            name = ".".join(folder.relative_to(ROOT).parts)
            modules = [
                f"{name}.{path.stem}" for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")
            ]
            text = [f"# {name}", f"::: {name}\n    options: {{members: [], show_root_heading: false}}"]
            pages[f"reference/{name}.md"] = "\n\n".join([*text, *(f"::: {module}" for module in modules)]) + "\n"
    return pages


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the parts of the navigation that follow from the files; pages it does not name come last."""
    notes = [f"notes/{path.name}" for path in sorted((ROOT / "docs" / "notes").glob("*.md"))]
    generated = {"notes/": notes, "reference/": sorted(reference_pages())}
    for section in config["nav"]:
        for title, content in section.items():
            if isinstance(content, str) and content in generated:
                section[title] = generated[content]
    named = str(config["nav"])
    others = [path.name for path in sorted((ROOT / "docs").glob("*.md")) if f"'{path.name}'" not in named]
    if others:
        config["nav"].append({"Further pages": others})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for name, page in TOP_LEVEL.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    for page, text in reference_pages().items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links that hold in the repository to links that hold in the site."""
    markdown = _OUTSIDE.sub(r"\1", markdown)
    if page.file.src_uri in TOP_LEVEL.values():
        markdown = markdown.replace("](docs/", "](").replace("](README.md", "](index.md")
    return markdown.replace("](../ARCHITECTURE.md", "](ARCHITECTURE.md")
