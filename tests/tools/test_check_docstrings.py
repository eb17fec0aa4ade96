"""The check of docstrings in `make lint`: what it refuses, and where it looks."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "check_docstrings.py"


def check(path):
    return subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True)


@pytest.mark.parametrize("word", ["Of", "What", "Whether", "How", "what"])
def test_refused_word(word, tmp_path):
    file = tmp_path / "module.py"
    file.write_text(f'def f():\n    """{word} it is."""\n')
    result = check(file)
    assert result.returncode == 1
    assert result.stdout == f"{file}:2: docstring begins with {word!r}: begin with the thing that it describes\n"


def test_every_kind_of_docstring(tmp_path):
    (tmp_path / "module.py").write_text(
        '"""Of a module."""\n'
        "LIMIT = 3\n"
        '"""What is allowed."""\n'
        "class C:\n"
        '    """Whether a class."""\n'
        "    size: int\n"
        '    """How large."""\n'
        "    async def f(self):\n"
        '        """\n'
        '        What a method does."""\n'
    )
    result = check(tmp_path)
    assert result.returncode == 1
    assert [int(line.split(":")[1]) for line in result.stdout.splitlines()] == [1, 3, 5, 7, 9]


def test_other_strings_are_allowed(tmp_path):
    (tmp_path / "module.py").write_text(
        '"""Offsets of blocks; whatever follows counts as the rest of the sentence: what, how."""\n'
        'QUESTION = "What is it?"\n'
        "def f():\n"
        '    """Return the sum."""\n'
        '    return "How many"\n'
    )
    result = check(tmp_path)
    assert (result.returncode, result.stdout) == (0, "")
