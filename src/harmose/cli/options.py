"""Arguments that several commands share, the terminal, and handling of outputs. Nothing here imports numpy."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from harmose.core.files import atomic_path
from harmose.errors import FormatError, HarmoseError

T = TypeVar("T")

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder of a training, or name of a shipped model.")
]
StructureArgument = Annotated[Path, typer.Argument(metavar="STRUCTURE", help="A structure file that ASE can read.")]
StructuresArgument = Annotated[
    Path, typer.Argument(metavar="STRUCTURES", help="A file that ASE can read, or a folder of such files.")
]
StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="A sample store.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace existing output.")]

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE|MODEL", help="A store, a .npz file or a DFT folder, with SAMPLE; or a model, with STRUCTURE."
    ),
]
TargetArgument = Annotated[
    str | None,
    typer.Argument(metavar="SAMPLE|STRUCTURE", help="Name of a sample in SOURCE, or a structure file for MODEL."),
]
ReferenceOption = Annotated[
    Path | None,
    typer.Option(
        metavar="SOURCE", help="DFT to compare with: a store, .npz file or DFT folder that has the same structure."
    ),
]
ElectronsOption = Annotated[
    float | None,
    typer.Option(
        help="Number of electrons (per cell) that the DFT code treats.  [default: from the sample or the model]"
    ),
]


def new_app(help: str | None = None) -> typer.Typer:
    """Return an empty Typer app: of a group with this help, or of a single command."""
    return typer.Typer(
        help=help,
        no_args_is_help=help is not None,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )


def examples(*commands: str) -> str:
    """Return the epilog of a command's help."""
    lines = [f"`{command}`" for command in commands]
    return ("Example: " if len(lines) == 1 else "Examples:\n\n") + "\n\n".join(lines)


def terminal() -> Console:
    """Return the console that commands print to."""
    return Console(highlight=False)


def progress(items: Iterable[T], text: str, total: int, console: Console) -> Iterable[T]:
    """Iterate over `items`; on a terminal, show a progress bar with the estimated time left."""
    return track(items, text, total, console=console, transient=True, disable=not console.is_terminal)


def installed_version(package: str) -> str:
    """Return the version of an installed package, or "not installed"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


@contextmanager
def new_output(path: Path, force: bool) -> Iterator[Path]:
    """Yield a hidden path to write to, moved to `path` if the block ends without an error (`atomic_path`).

    `FormatError` if `path` exists and `force` is False. Of folders, only a sample store is replaced.
    """
    check_output(path, force)
    with atomic_path(path) as hidden:
        yield hidden


def check_output(path: Path, force: bool) -> None:
    """Raise `FormatError` if `path` cannot be written, before any work is done for it."""
    if path.exists() and not force:
        raise FormatError(f"{path}: exists already; --force replaces it")
    if path.is_dir() and not (path / "data.mdb").is_file():
        raise FormatError(f"{path}: expected a sample store or a file to replace, got another folder")
    if not path.parent.is_dir():
        raise FormatError(f"{path}: there is no folder {path.parent}")


@contextmanager
def error_prefix(name: object) -> Iterator[None]:
    """Put `name` in front of the message of errors in the block, unless it is there already, alone or with a frame."""
    try:
        yield
    except HarmoseError as error:
        text = str(error)
        named = text.startswith((f"{name}: ", f"{name}, frame "))
        raise type(error)(text if named else f"{name}: {text}") from None


def table(*columns: str, title: str | None = None) -> Table:
    """Return a table whose columns after the first are aligned right."""
    made = Table(*columns, title=title)
    for column in made.columns[1:]:
        column.justify = "right"
    return made
