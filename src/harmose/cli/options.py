"""Arguments that several commands share, and what happens to their outputs."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from harmose.core.files import atomic_path
from harmose.errors import FormatError, HarmoseError

if TYPE_CHECKING:
    from ase import Atoms
    from rich.console import Console

T = TypeVar("T")

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder of a training, or name of a shipped model.")
]
StructureArgument = Annotated[Path, typer.Argument(metavar="STRUCTURE", help="Any file that ASE reads.")]
StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="A sample store.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


def examples(*commands: str) -> str:
    """The epilog of a command's help."""
    lines = [f"`{command}`" for command in commands]
    return ("Example: " if len(lines) == 1 else "Examples:\n\n") + "\n\n".join(lines)


def terminal() -> "Console":
    from rich.console import Console

    return Console(highlight=False)


def progress(items: Iterable[T], text: str, total: int, console: "Console") -> Iterable[T]:
    """The items, with a bar and an estimate on a terminal."""
    from rich.progress import track

    return track(items, text, total, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def new_output(path: Path, force: bool) -> Iterator[Path]:
    """Yield a hidden path to write to, moved to `path` if the block ends without an error (`atomic_path`).

    `FormatError` if `path` exists and `force` is False. Of folders, only a sample store is replaced.
    """
    check_output(path, force)
    with atomic_path(path) as hidden:
        yield hidden


def check_output(path: Path, force: bool) -> None:
    """Refuse to write to `path` before any work is done for it."""
    if path.exists() and not force:
        raise FormatError(f"{path}: exists already; --force replaces it")
    if path.is_dir() and not (path / "data.mdb").is_file():
        raise FormatError(f"{path}: expected a sample store or a file to replace, got another folder")
    if not path.parent.is_dir():
        raise FormatError(f"{path}: there is no folder {path.parent}")


@contextmanager
def about(what: object) -> Iterator[None]:
    """Errors inside say what they are about."""
    try:
        yield
    except HarmoseError as error:
        raise type(error)(f"{what}: {error}") from None


def one_structure(path: Path) -> "Atoms":
    """The only structure of a file, checked."""
    from harmose.io.structures import read_structures

    found = read_structures(path)
    if len(found) != 1:
        raise FormatError(f"{path}: expected one structure, got {len(found)}")
    return found[0]
