"""The command `harmose`: help, which modules are imported, and `python -m harmose`."""

import ast
import subprocess
import sys
from inspect import cleandoc
from pathlib import Path

import pytest
import typer

from harmose import cli
from harmose.cli import app, main
from harmose.cli.commands import COMMANDS as TABLE

COMMANDS = [
    *("demo", "label", "convert", "train", "evaluate", "predict", "calibrate", "rank"),
    *("orbitals", "bands", "dos", "scf", "restart", "bench", "version", "data"),
]


def test_help(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert [name for name in COMMANDS if f"{name} " not in out] == []
    assert main([]) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("command", [*COMMANDS[:-1], *(f"data {name}" for name in ("ls", "check", "split", "merge"))])
def test_help_of_a_command(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert "Example" in out
    assert f"harmose {command} " in out.replace("\n", " ") + " "


def modules_after(*arguments: str) -> set[str]:
    """Run a command in a new process; return the names of the modules that it has imported."""
    code = "import sys; from harmose.cli import main; main(sys.argv[1:]); print('modules:', *sys.modules)"
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(run.stdout.split("modules:")[1].split())


HEAVY = {"torch", "numpy", "scipy", "ase", "pyscf", "matplotlib", "distributed", "e3nn", "lmdb"}


@pytest.mark.parametrize(
    ("arguments", "imported"),
    [(["--help"], set()), (["no-such-command"], set()), (["version"], {"harmose.cli.options", "harmose.cli.version"})],
)
def test_only_the_module_of_the_command_is_imported(arguments, imported):
    modules = modules_after(*arguments)
    assert {name for name in modules if name.startswith("harmose.cli.")} == {"harmose.cli.commands", *imported}
    assert HEAVY & modules == set()


def test_data_imports_no_torch(water_store):
    assert {"torch", "pyscf", "matplotlib", "harmose.cli.predict"} & modules_after(
        "data", "ls", str(water_store)
    ) == set()


def test_table_of_commands():
    """The table has every module with an `app`, and the first paragraph of the docstring of its command."""
    loaded = typer.main.get_command(app).commands
    helps = {name: " ".join(cleandoc(loaded[name].help).split("\n\n")[0].split()) for name in TABLE}
    assert helps == TABLE
    modules = Path(cli.__file__).parent.glob("*.py")
    assert {path.stem for path in modules if "\napp = new_app(" in path.read_text()} == set(TABLE) == set(COMMANDS)


def test_imports_are_at_the_top():
    for path in Path(cli.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        nested = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) and node.col_offset]
        assert [f"{path.name}: line {node.lineno}" for node in nested] == []


def test_every_option_is_explained():
    """All options and arguments have a help text that is a sentence; none begins with a genitive or a question word."""
    command = typer.main.get_command(app)
    groups = [command, *(c for c in command.commands.values() if hasattr(c, "commands"))]
    commands = [c for group in groups for c in group.commands.values() if not hasattr(c, "commands")]
    texts = [parameter.help for c in commands for parameter in c.params]
    assert None not in texts
    assert [text for text in texts if not text[0].isupper() and text[0] not in "`petscwannier90collinearkpm:"] == []
    assert [text for text in texts if text.startswith(("Of ", "What ", "Whether ", "How "))] == []


def test_python_m_harmose():
    run = subprocess.run([sys.executable, "-m", "harmose", "data", "ls", "/no/store"], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr == "harmose: error: /no/store: no such store\n"
    assert run.stdout == ""
