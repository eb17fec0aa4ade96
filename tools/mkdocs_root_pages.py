"""MkDocs hook: README.md, CHANGELOG.md, CONTRIBUTING.md and LICENSE of the repository's root become pages of the site."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages; links between them and to `docs/` are made relative to the site."""
    root = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        text = (root / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_with_site_links(text)))
    licence = f"# Licence\n\n{(root / 'LICENSE').read_text(encoding='utf-8')}"
    files.append(File.generated(config, "license.md", content=licence, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links from a page of `docs/` to a file of the root (`../README.md`) relative to the site."""
    for source, target in PAGES.items():
        markdown = markdown.replace(f"](../{source}", f"]({target}")
    return markdown


def _with_site_links(text: str) -> str:
    text = re.sub(r"(\]\(|src=\")docs/", r"\1", text)
    for source, page in {**PAGES, "LICENSE": "license.md"}.items():
        text = text.replace(f"]({source}", f"]({page}")
    return text
