"""The documentation agrees with the program: its commands, options, keys, imports and versions exist, its first example runs."""

import ast
import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import typer
import yaml

import harmose
from harmose.cli import app
from harmose.train.config import load_config

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "src" / "harmose" / "models").glob("*/README.md")),
]
SCRIPTS = [*sorted((ROOT / "examples").rglob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))]


def page_id(path):
    return path.relative_to(ROOT).as_posix()


def blocks(text, language):
    """Code blocks of a page in this language ("" for none)."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def command_lines(text):
    """Commands in the shell blocks and the indented lines of a page or docstring: continued lines joined, comments removed."""
    lines = [line for block in blocks(text, "(?:sh|bash|console)?") for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"^(?:    |#     )((?:harmose|python) .*)$", text, flags=re.MULTILINE)
    lines += re.findall(r"`(harmose [a-z][^`\n]*)`", text)
    for line in lines:
        line = re.split(r"\s#|\s\||\s>|;", line)[0].strip().removeprefix("$ ").removeprefix(".venv/bin/")
        if re.match(r"(harmose|python) ", line) and "..." not in line:
            yield line


def options_of(words):
    """Options of the command that the words after `harmose` name; None if there is no such command."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            return None
        command, words = command.commands[words[0]], words[1:]
    return {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]} | {
        "--help"
    }


@pytest.mark.parametrize("page", [*PAGES, *SCRIPTS], ids=page_id)
def test_commands_and_options_exist(page):
    wrong = []
    for line in command_lines(page.read_text()):
        words = shlex.split(line)
        if words[0] == "python":
            exists = words[1].startswith("-") or (ROOT / words[1]).exists()
            wrong += [] if exists else [line]
        elif re.fullmatch(r"[a-z]+(\|[a-z]+)*", words[1]):
            for name in words[1].split("|"):
                options = options_of([name, *words[2:]])
                used = {word.split("=")[0] for word in words[2:] if word.startswith("--") and word != "--"}
                if options is None or used - options:
                    wrong.append(line)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_keys_of_trainings_exist(page):
    for line in command_lines(page.read_text()):
        words = shlex.split(line)
        if words[:2] == ["harmose", "train"] and (ROOT / "".join(words[2:3])).is_file():
            overrides = [word for word in words[3:] if re.fullmatch(r"[\w.]+=[^\[\]]*", word)]
            config = load_config(ROOT / words[2], ["data=STORE", "out=DIR", *overrides])
            assert config.out


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_imports_of_python_blocks_exist(page):
    for block in blocks(page.read_text(), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("harmose"):
                module = import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "harmose":
                assert hasattr(harmose, node.attr), f"harmose.{node.attr}"


def test_first_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first = blocks((ROOT / "README.md").read_text(), "python")[0]
    exec(compile(first, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("[-509.8")


def test_links_between_files_of_the_repository_exist():
    missing = []
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|<img src=\"([^\"]+)\"", page.read_text()):
            path = "".join(target)
            generated = {"changelog.md", "contributing.md", "index.md"}
            if path and "://" not in path and path not in generated and not (page.parent / path).exists():
                missing.append(f"{page_id(page)}: {path}")
    assert missing == []


def test_every_page_is_in_the_navigation():
    # The loader of MkDocs resolves tags that a plain one refuses; there are none in this file.
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not re.search(rf"[ :]{re.escape(page)}$", nav, re.MULTILINE)} <= {
        "images/bench/bench.md"
    }


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == harmose.__version__
    assert project["dynamic"] == ["version"]
    assert (
        f"[{harmose.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
        or "Unreleased" in (ROOT / "CHANGELOG.md").read_text()
    )
