"""The command `harmose`: help, and `python -m harmose`."""

import subprocess
import sys

import pytest
import typer

from harmose.cli import app, main

COMMANDS = [
    *("demo", "label", "convert", "train", "evaluate", "predict", "calibrate", "rank"),
    *("orbitals", "bands", "dos", "scf", "bench", "version", "data"),
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


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from harmose.cli import main; main(['--help']);"
        "assert not {'torch', 'numpy', 'ase', 'pyscf', 'distributed', 'e3nn'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


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
