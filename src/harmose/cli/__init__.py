"""The command `harmose`: one file per group of commands, and one place where errors become one line and exit code 2.

Commands import what they need when they run, so that `harmose --help` answers at once.
"""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import typer

from harmose.cli import bench, convert, data, models, periodic, scf
from harmose.cli import train as work
from harmose.cli import uncertainty as trust
from harmose.cli.options import examples
from harmose.errors import HarmoseError, OutsideDomain

app = typer.Typer(
    name="harmose",
    help="Kohn-Sham Hamiltonians of molecules and crystals from the atomic structure alone, in two stages.",
    epilog="`harmose demo` shows the whole way, from DFT to a report, in a few minutes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command(epilog=examples("harmose demo"))(work.demo)
app.command(
    epilog=examples(
        "harmose label water.xyz water --functional pbe --basis def2-svp --workers 2",
        "harmose label graphene.xyz graphene --code cp2k --kmesh 3 3 1",
    )
)(work.label)
app.command(
    epilog=examples(
        "harmose convert siesta-runs silicon",
        "harmose convert QH9Stable.db qh9",
        "harmose convert silicon silicon-deeph --to deeph",
    )
)(convert.convert)
app.add_typer(data.app, name="data")
app.command(epilog=examples("harmose train configs/water.yaml data=water out=runs/water time_limit=20min"))(work.train)
app.command(epilog=examples("harmose evaluate runs/water water --split val --out runs/water/evaluation"))(
    models.evaluate
)
app.command(epilog=examples("harmose predict runs/water new.xyz --out new.npz"))(models.predict)
app.command(epilog=examples("harmose calibrate runs/water water --split val"))(trust.calibrate)
app.command(epilog=examples("harmose rank runs/water pool.xyz --first 100 --out next.xyz"))(trust.rank)
app.command(
    epilog=examples(
        "harmose orbitals runs/water new.xyz",
        "harmose orbitals runs/water new.xyz --reference water",
        "harmose orbitals water frame-0",
    )
)(models.orbitals)
app.command(
    epilog=examples(
        "harmose bands graphene pristine_1x1 --path GMKG --window -20 10 --out bands.png",
        "harmose bands runs/graphene new.cif --reference graphene --out bands.png",
    )
)(periodic.bands)
app.command(
    epilog=examples(
        "harmose dos graphene pristine_1x1 --by l --window -20 10 --out dos.png",
        "harmose dos runs/graphene new.cif --reference graphene --out dos.png",
    )
)(periodic.dos)
app.command(
    epilog=examples("harmose scf runs/water new.xyz", "harmose scf runs/water new.xyz --guesses all --no-diis")
)(scf.scf)
app.command(
    epilog=examples(
        "harmose bench --quick", "harmose bench --out bench", "harmose bench --systems bilayer-9 --against none"
    )
)(bench.bench)
app.command(epilog=examples("harmose version"))(work.version)

# Typer has brought its own copy of click since 0.25: take the class from it, whichever it is.
_ClickException: type[Exception] = typer.BadParameter.__mro__[2]


INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the signal's number, as in every shell."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0, 1 for findings of a check, 2 for bad input, 130 when interrupted.

    Bad input gives one line on stderr. `HARMOSE_DEBUG=1` shows tracebacks instead.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    command = typer.main.get_command(app)
    doubts: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", OutsideDomain)
        warnings.showwarning = _kept(doubts, warnings.showwarning)
        code = _guarded(lambda: command.main(args=given, prog_name="harmose", standalone_mode=False))
    for doubt in doubts if code in (0, 1) else ():  # a refusal says all that counts in its one line
        print(f"harmose: warning: {doubt}", file=sys.stderr)
    return code


def _kept(doubts: list[str], others: Callable[..., None]) -> Callable[..., None]:
    """What shows warnings: harmose's own are kept, to be said of what came out in the end."""

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, OutsideDomain):
            doubts.append(str(message))
        else:
            others(message, category, *where)

    return show


def _guarded(run: Callable[[], object]) -> int:
    if os.environ.get("HARMOSE_DEBUG", "") not in ("", "0"):
        return _exit_code(run())
    try:
        return _exit_code(run())
    except HarmoseError as error:
        return _fail(str(error))
    except _ClickException as error:
        return _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        return _exit_code(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; Python must not complain about it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}")
    except MemoryError:
        return _fail("out of memory")
    except Exception as error:
        text = f"{type(error).__name__}: {error} (a fault of harmose; HARMOSE_DEBUG=1 shows where)"
        return _fail(text, code=1, kind="internal error: ")


def _exit_code(result: object) -> int:
    """Of what a command returned; typer turns an interruption into its exit code."""
    code = result if isinstance(result, int) else 0
    if code == INTERRUPTED:
        print("harmose: interrupted", file=sys.stderr)
    return code


def _usage(error: Any) -> int:
    text = error.format_message()
    if not text.strip():  # a group without a command: its help has been printed
        return 0
    context = getattr(error, "ctx", None)
    return _fail(text.strip().rstrip("."), hint=f" (see `{context.command_path} --help`)" if context else "")


def _fail(text: str, hint: str = "", code: int = 2, kind: str = "error: ") -> int:
    line = " ".join(text.split()) + hint
    print(f"harmose: {kind}{line}", file=sys.stderr)
    return code
