"""The files of an OpenMX run: which `.scfout` a path names, and where the text of its input is."""

from collections.abc import Iterator
from pathlib import Path

from harmose.errors import FormatError
from harmose.io.openmx.input import MARKER, Input, parse_input
from harmose.io.openmx.log import Log
from harmose.io.openmx.scfout import Scfout

ENDING = ".scfout"

TEXTS = (".dat", ".out")
"""Endings of files that hold the text of an input."""

HEAD = 1 << 16
"""Number of bytes in which the atoms of an input are searched."""


def is_openmx(path: Path) -> bool:
    """True for a `.scfout` file, the input or `.out` of a run of OpenMX, and a folder with `.scfout` files."""
    if path.is_dir():
        return any(path.glob("*" + ENDING))
    return path.is_file() and (path.suffix == ENDING or (path.suffix in TEXTS and _is_input(path)))


def scfout_files(path: Path) -> dict[str, Path]:
    """Return the `.scfout` files of a folder that holds several, by their names; else the path itself, by ""."""
    found = sorted(path.glob("*" + ENDING)) if path.is_dir() else []
    return {file.stem: file for file in found} if len(found) > 1 else {"": path}


def missing_scfout(path: Path) -> str | None:
    """Say what a folder of OpenMX without a `.scfout` file lacks; None for other folders."""
    text = next(_inputs(path), None) if path.is_dir() and not is_openmx(path) else None
    return None if text is None else _missing(path, text)


def find_scfout(path: Path) -> Path:
    """Return the `.scfout` file of a run: of its folder, of its `.dat` or `.out` file, or the file itself.

    Raises:
        FormatError: there is none, or several are in the folder.
    """
    if path.is_dir():
        found = sorted(path.glob("*" + ENDING))
        if not found:
            raise FormatError(_missing(path, next(_inputs(path), None)))
        if len(found) > 1:
            names = ", ".join(file.name for file in found[:5]) + (", ..." if len(found) > 5 else "")
            raise FormatError(f"{path}: expected one .scfout file, got {names}; give the path of one")
        return found[0]
    if path.suffix == ENDING:
        return path
    if not _is_input(path):
        raise FormatError(f"{path}: expected a .scfout file of OpenMX, the .dat or .out file of its run, or its folder, got "
                          "something else")  # fmt: skip
    for stem in (_system_name(path), path.stem):
        if (path.parent / f"{stem}{ENDING}").is_file():
            return path.parent / f"{stem}{ENDING}"
    raise FormatError(_missing(path, path))


def find_input(stored: Scfout, log: Log | None) -> Input:
    """Return the input of a run: from its `.scfout` file, else from the `.dat` or `.out` file beside it.

    Raises:
        FormatError: no text names the species.
    """
    text = parse_input(stored.input_lines, str(stored.path))
    if text.is_complete:
        return text
    beside = stored.path.with_suffix(".dat")
    if beside.is_file():
        text = parse_input(_text(beside).splitlines(), str(beside))
        if text.is_complete:
            return text
    if log is not None:
        text = parse_input(log.text.splitlines(), str(stored.path.with_suffix(".out")))
        if text.is_complete:
            return text
    raise FormatError(f"{stored.path}: expected the text of the input in it, or {beside.name} or its .out beside it, got none: "
                      "nothing else names the elements")  # fmt: skip


def _inputs(folder: Path) -> Iterator[Path]:
    """Yield the inputs and `.out` files of OpenMX in a folder."""
    files = (file for ending in TEXTS for file in sorted(folder.glob("*" + ending)))
    return (file for file in files if file.is_file() and _is_input(file))


def _is_input(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return MARKER.encode() in file.read(HEAD).lower()
    except OSError:
        return False


def _missing(path: Path, text: Path | None) -> str:
    """The message for a run without its `.scfout`; `text` is its input."""
    if text is None:
        return f"{path}: expected a .scfout file of OpenMX (HS.fileout on), got none"
    run = parse_input(_text(text).splitlines(), str(text))
    name = f"{_system_name(text)}{ENDING}"
    if run.is_on("HS.fileout"):
        return (
            f"{path}: expected {name}, which {text.name} asks for, got a run that has not written it; let OpenMX finish"
        )
    return f"{path}: expected {name}, got a run of OpenMX without it; set HS.fileout on in the input and run it again"


def _system_name(path: Path) -> str:
    return parse_input(_text(path).splitlines(), str(path)).word("System.Name", path.stem)


def _text(path: Path) -> str:
    return path.read_text(errors="replace")
