"""The command `harmose`: one module per command, and one place where errors become one line and exit code 2."""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import typer

from harmose.cli.commands import LazyGroup
from harmose.errors import HarmoseError, IncompleteHamiltonian, OutsideDomain

app = typer.Typer(
    cls=LazyGroup,
    name="harmose",
    help="Kohn-Sham Hamiltonians of molecules and crystals from the atomic structure alone.",
    epilog="`harmose demo` runs a small example of everything, from DFT to a report, in a few minutes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback()
def _options() -> None:
    """Do nothing. Without this callback, Typer refuses an app that has no command yet."""


# Typer has its own copy of click since version 0.25; this is its exception class in any version.
_ClickException: type[Exception] = typer.BadParameter.__mro__[2]


INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal, as in every shell."""

BROKEN_PIPE = 141
"""Exit code when the reader of the output has gone, as in every shell."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 for findings of a check, 2 for bad input, 130 if interrupted.

    Bad input gives one line on stderr. With the environment variable `HARMOSE_DEBUG=1`, errors show their traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    command = typer.main.get_command(app)
    outside_domain: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", OutsideDomain)
        warnings.simplefilter("always", IncompleteHamiltonian)
        warnings.showwarning = _collecting(outside_domain, warnings.showwarning)
        code = _run(lambda: command.main(args=arguments, prog_name="harmose", standalone_mode=False))
    for text in outside_domain if code in (0, 1) else ():  # an error is one line alone
        print(f"harmose: warning: {text}", file=sys.stderr)
    return code


def _collecting(texts: list[str], show_other: Callable[..., None]) -> Callable[..., None]:
    """A `warnings.showwarning` that collects the texts of harmose's warnings, to be printed after the results."""

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, IncompleteHamiltonian) and str(message) in texts:
            return  # a calculation of a folder of runs is read twice
        if issubclass(category, (OutsideDomain, IncompleteHamiltonian)):
            texts.append(str(message))
        else:
            show_other(message, category, *where)

    return show


def _run(command: Callable[[], object]) -> int:
    if os.environ.get("HARMOSE_DEBUG", "") not in ("", "0"):
        return _exit_code(command())
    try:
        return _exit_code(command())
    except HarmoseError as error:
        return _fail(str(error))
    except _ClickException as error:
        return _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        return _exit_code(INTERRUPTED)
    except BrokenPipeError:
        # Python must not complain about the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}")
    except MemoryError:
        return _fail("out of memory")
    except Exception as error:
        text = f"{type(error).__name__}: {error} (a bug in harmose; HARMOSE_DEBUG=1 shows where)"
        return _fail(text, code=1, kind="internal error: ")


def _exit_code(result: object) -> int:
    """Exit code of a command's result; typer turns an interruption into a number."""
    code = result if isinstance(result, int) else 0
    if code == INTERRUPTED:
        print("harmose: interrupted", file=sys.stderr)
    return code


def _usage(error: Any) -> int:
    text = error.format_message().replace("Value error, ", "")  # typer checks choices by pydantic, which adds this
    if not text.strip():  # a group without a command has printed its help
        return 0
    context = getattr(error, "ctx", None)
    return _fail(text.strip().rstrip("."), hint=f" (see `{context.command_path} --help`)" if context else "")


def _fail(text: str, hint: str = "", code: int = 2, kind: str = "error: ") -> int:
    line = " ".join(text.split()) + hint
    print(f"harmose: {kind}{line}", file=sys.stderr)
    return code
