"""Find the calculations in a folder of folders, and say why others are left out."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harmose.core.basis import BasisSet
from harmose.errors import FormatError
from harmose.io.formats import Format
from harmose.io.sources import Runs

Recognise = Callable[[Format, Path], bool]


@dataclass
class Found:
    """Calculations by name, each with its format and path, and why other folders are left out, by name."""

    runs: dict[str, tuple[Format, Path]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def source(self, path: Path, basis: BasisSet | None) -> Runs:
        """Return the calculations as a source; `FormatError` if they are of several formats."""
        kinds: dict[str, int] = {}
        for format, _ in self.runs.values():
            kinds[format.name] = kinds.get(format.name, 0) + 1
        if len(kinds) > 1:
            some = ", ".join(f"{count} of {name}" for name, count in kinds.items())
            raise FormatError(f"{path}: expected calculations of one format, got {some}; choose one with --format")
        read = next(iter(self.runs.values()))[0].read
        assert read is not None
        return Runs({name: place for name, (_, place) in self.runs.items()}, read, basis, self.left_out)

    def reason(self, path: Path) -> str:
        """Return why there is no calculation at `path`, as an error of one line: the first of all reasons."""
        name, reason = next(iter(self.left_out.items()))
        others = len(self.left_out) - 1
        also = f" (and {others} other folder{'s' if others > 1 else ''})" if others else ""
        return (reason if reason.startswith(str(path)) else f"{path}: {name}: {reason}") + also


def find_runs(
    path: Path, candidates: Sequence[Format], recognises: Recognise = lambda format, place: format.recognises(place)
) -> Found:
    """Return the calculations at `path`: itself, or those in folders below it, also behind links.

    Folders inside the folder of a calculation are not searched, nor hidden ones. A folder that several names lead to is
    read once. A folder that is nearly a calculation (`Format.missing`) is left out with the reason.
    """
    found = Found()
    first_names = dict.fromkeys(path.resolve().parents, "..")
    waiting, links = [path], []
    while waiting or links:
        folder = (
            waiting.pop() if waiting else links.pop()
        )  # links last: a folder has its own name if it is below `path`
        name = folder.relative_to(path).as_posix() if folder != path else path.resolve().name
        first = first_names.setdefault(folder.resolve(), name)
        if first != name:
            found.left_out[name] = f"the same folder as {first}"
            continue
        if not os.access(folder, os.R_OK):
            found.left_out[name] = f"{folder}: expected a folder that can be opened, got one without permission"
            continue
        format = next((candidate for candidate in candidates if recognises(candidate, folder)), None)
        if format is not None:
            found.runs |= {
                f"{name}/{part}".rstrip("/"): (format, place) for part, place in format.parts(folder).items()
            }
            continue
        reason = next((reason for candidate in candidates if (reason := candidate.missing(folder))), None)
        below = _subfolders(folder)
        for link in _dangling(folder):
            found.left_out[link.relative_to(path).as_posix()] = (
                f"{link}: expected a folder or file behind the link, got nothing there"
            )
        if reason is not None:
            found.left_out[name] = reason
        links += [folder for folder in below if folder.is_symlink()]
        waiting += [folder for folder in below if not folder.is_symlink()]
    return Found(
        {name: found.runs[name] for name in _sorted(found.runs)},
        {name: found.left_out[name] for name in _sorted(found.left_out)},
    )


def _subfolders(path: Path) -> list[Path]:
    """Return the folders, and links to folders, that are not hidden."""
    return [f for f in path.iterdir() if f.is_dir() and not f.name.startswith(".")] if path.is_dir() else []


def _dangling(path: Path) -> list[Path]:
    """Return the links that lead to nothing, as the link to a run that was moved, and that are not hidden."""
    if not path.is_dir():
        return []
    return sorted(f for f in path.iterdir() if f.is_symlink() and not f.exists() and not f.name.startswith("."))


def _sorted(names: Iterable[str]) -> list[str]:
    """Sort paths by their parts; 9 comes before 10."""
    return sorted(names, key=lambda name: [(len(part) if part.isdecimal() else 1000, part) for part in name.split("/")])
