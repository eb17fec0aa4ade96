"""Arguments that several commands share, checks of what they name, and handling of outputs."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from harmose.core.files import atomic_path
from harmose.errors import ConfigError, FormatError, HarmoseError, ModelError

if TYPE_CHECKING:
    from ase import Atoms
    from rich.console import Console

    from harmose.data.store import Store
    from harmose.inference.card import Card

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


def examples(*commands: str) -> str:
    """The epilog of a command's help."""
    lines = [f"`{command}`" for command in commands]
    return ("Example: " if len(lines) == 1 else "Examples:\n\n") + "\n\n".join(lines)


def terminal() -> "Console":
    """The console that commands print to."""
    from rich.console import Console

    return Console(highlight=False)


def progress(items: Iterable[T], text: str, total: int, console: "Console") -> Iterable[T]:
    """Iterate over `items`; on a terminal, show a progress bar with the estimated time left."""
    from rich.progress import track

    return track(items, text, total, console=console, transient=True, disable=not console.is_terminal)


def installed_version(package: str) -> str:
    """Version of an installed package, or "not installed"."""
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
    """Put `name` in front of the message of errors in the block."""
    try:
        yield
    except HarmoseError as error:
        raise type(error)(f"{name}: {error}") from None


def one_structure(path: Path) -> "Atoms":
    """The only structure of a file, checked."""
    from harmose.io.structures import read_structures

    structures = read_structures(path)
    if len(structures) != 1:
        raise FormatError(f"{path}: expected one structure, got {len(structures)}")
    return structures[0]


def split_names(store: "Store", split: str | None) -> list[str]:
    """Names of the samples of a split. Default: test, or else val, or else all."""
    splits = store.splits
    if split is None:
        split = next((name for name in ("test", "val") if splits.get(name)), "all")
    if split != "all" and split not in splits:
        raise ConfigError(f"{store.path}: expected a split among {', '.join([*splits, 'all'])}, got {split!r}")
    names = store.names() if split == "all" else splits[split]
    if not names:
        raise FormatError(f"{store.path}: there are no samples to evaluate on")
    return names


def check_labels(card: "Card", store: "Store") -> None:
    """Raise `ModelError` if a store has other labels (spin, code, functional, basis) than those the model learned."""
    if card.spin is not store.spin:
        raise ModelError(f"{store.path}: expected labels of spin {card.spin}, as the model's, got {store.spin}")
    for key in ("code", "functional", "basis"):
        learned, stored = card.settings.get(key), store.metadata.get(key)
        if learned is not None and stored is not None and learned != stored:
            raise ModelError(f"{store.path}: expected labels of {key} {learned}, as the model's, got {stored}")


def table(*columns: str, title: str | None = None) -> Any:
    """A `rich` table whose columns after the first are aligned right."""
    from rich.table import Table

    made = Table(*columns, title=title)
    for column in made.columns[1:]:
        column.justify = "right"
    return made
