"""Refuse docstrings that do not begin with a plain sentence.

    python tools/check_docstrings.py [FILE or FOLDER ...]      default: src

A docstring that begins with "Of", "What", "Whether" or "How" describes a thing without naming it. Each such docstring gives
a line `file:line: ...`, and the exit code is then 1. Checked are the docstrings of modules, classes and functions, and the
strings below attributes and constants.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

REFUSED = re.compile(r"(Of|What|Whether|How)\b", re.IGNORECASE)


def problems(source: str) -> Iterator[tuple[int, str]]:
    """Yield line number and first word of each refused docstring in a Python source."""
    for node in ast.walk(ast.parse(source)):
        for line, text in docstrings(node):
            match = REFUSED.match(text.lstrip())
            if match:
                yield line, match.group()


def docstrings(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of the docstring of `node` and of the strings that follow assignments in its body."""
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for previous, statement in zip([None, *node.body], node.body, strict=False):
        if previous is not None and not isinstance(previous, ast.Assign | ast.AnnAssign):
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            text = statement.value.value
            if isinstance(text, str):
                yield statement.lineno, text


def main(arguments: list[str]) -> int:
    """Check the files and folders named on the command line; return the exit code."""
    paths = [Path(argument) for argument in arguments or ["src"]]
    files = sorted(file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path]))
    n_refused = 0
    for file in files:
        for line, word in sorted(problems(file.read_text(encoding="utf-8"))):
            print(f"{file}:{line}: docstring begins with {word!r}: begin with the thing that it describes")
            n_refused += 1
    return 1 if n_refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
