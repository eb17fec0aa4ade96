"""docs/architecture.md and docs/method.md agree with the source: layers, and files that they name."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "harmose"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
CONTRACT = next(
    contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    if contract["id"] == "layers"
)


def test_layers_are_those_that_import_linter_checks():
    blocks = re.findall(r"^```\n(.*?)^```$", ARCHITECTURE.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert CONTRACT["layers"] in [block.splitlines() for block in blocks]


def test_every_module_has_a_layer():
    in_layers = {name.strip() for layer in CONTRACT["layers"] for name in layer.split("|")}
    modules = {
        path.stem if path.suffix == ".py" else path.name
        for path in SOURCE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert modules - {"__init__", "__main__"} == in_layers


def files_named_in(page):
    """Paths of files and folders in the code spans of a page, and the line of each."""
    for line in page.read_text().splitlines():
        for span in re.findall(r"`([^`\n]+)`", line):
            if re.fullmatch(r"[\w./-]+(\.(py|c|yaml|j2|pyi)|/)", span):
                yield span.rstrip("/"), line.strip()


@pytest.mark.parametrize("page", [ARCHITECTURE, ROOT / "docs" / "method.md"], ids=lambda page: page.stem)
def test_files_that_the_page_names_exist(page):
    # A path is relative to the repository, to src, to src/harmose, or to the folder that the line is about.
    everything = [
        "/" + path.relative_to(ROOT).as_posix() for path in [*SOURCE.rglob("*"), *(ROOT / "tests").rglob("*")]
    ]
    missing = [
        f"{name}, in: {line[:80]}"
        for name, line in files_named_in(page)
        if not (ROOT / name).exists() and not any(path.endswith(f"/{name}") for path in everything)
    ]
    assert missing == []


def test_page_names_every_folder():
    text = ARCHITECTURE.read_text()
    folders = [path.name for path in SOURCE.iterdir() if path.is_dir() and not path.name.startswith("__")]
    assert [name for name in folders if f"`{name}/`" not in text] == []
