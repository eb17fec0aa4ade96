"""The files of a SIESTA run: which one has H and S, and what input and output say beside it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harmose.errors import FormatError
from harmose.io.siesta.netcdf import is_damaged_netcdf, is_siesta_netcdf

ENDINGS = (".HSX", ".TSHS", ".nc")
"""Files with H and S, in the order of preference."""

SWITCH = "`SaveHS true` in the input writes LABEL.HSX, with `CDF.Save true` LABEL.nc"

HEAD = 1_000_000
"""Number of bytes in which an output has the label of its run, after a copy of the input."""

LARGEST_OUTPUT = 500e6
"""Bytes; larger files are not searched for the outcome of a run."""

OUTCOME = re.compile(rb"(SCF cycle converged|SCF Convergence by)|SCF_NOT_CONV|SCF did not converge")


@dataclass(frozen=True)
class Run:
    """A run: its label, and its file with the matrices. Its other files are in the same folder."""

    label: str
    matrix: Path

    def beside(self, ending: str) -> Path:
        return self.matrix.with_name(self.label + ending)


@dataclass(frozen=True)
class Outcome:
    """`converged`: whether the last self-consistency cycle did; `energy` in eV. None where no file says it."""

    converged: bool | None = None
    energy: float | None = None


def is_siesta(path: Path) -> bool:
    """True for a file with H and S, an input `.fdf` with such a file beside it, and a folder with one."""
    if path.is_file():
        return path.suffix in (".HSX", ".TSHS", ".fdf") or is_siesta_netcdf(path)
    return path.is_dir() and bool(_labels(path))


def missing_in_siesta(path: Path) -> str | None:
    """Return what the folder of a run of SIESTA lacks, in one line; None for other folders."""
    if path.is_file() and not is_siesta(path):
        return _damaged_netcdf([path])
    if not path.is_dir() or is_siesta(path):
        return None
    if damaged := _damaged_netcdf(sorted(path.glob("*.nc"))):
        return damaged
    is_run = any(any(path.glob(pattern)) for pattern in ("*.fdf", "*.XV", "*.ORB_INDX", "*.DM"))
    return f"{path}: expected H and S of the SIESTA run, got none; {SWITCH}" if is_run else None


def _damaged_netcdf(files: Iterable[Path]) -> str | None:
    """Return what to do about the first netCDF4 file that cannot be opened; None if there is none."""
    damaged = next((file for file in files if is_damaged_netcdf(file)), None)
    if damaged is None:
        return None
    return f"{damaged}: expected a netCDF file of SIESTA, got one that is cut off or damaged; copy it again, or run SIESTA again"


def runs_in(path: Path) -> dict[str, Path]:
    """Return the path of each run in a folder by the end of its name: "" for one, the labels of several."""
    if not path.is_dir():
        return {"": path}
    labels = _labels(path)
    return {"": path} if len(labels) < 2 else {label: _matrix(path, label) for label in labels}


def find_run(path: Path) -> Run:
    """Return the run at `path`: its folder, `.fdf` or file with H and S; `FormatError` unless there is exactly one."""
    if path.is_file() and (path.suffix in ENDINGS[:2] or is_siesta_netcdf(path)):
        return Run(path.stem, path)
    if path.is_file() and path.suffix == ".fdf":
        folder, label = path.parent, system_label(path)
    elif path.is_dir():
        folder, label = path, None
    else:
        raise FormatError(
            f"{path}: expected a SIESTA run folder or its .fdf, .HSX, .TSHS or .nc file, got another kind of file"
        )
    labels = [found for found in _labels(folder) if label in (None, found)]
    if not labels:
        raise FormatError(
            missing_in_siesta(folder) or f"{path}: expected {label or 'LABEL'}.HSX, .TSHS or .nc, got none; {SWITCH}"
        )
    if len(labels) > 1:
        raise FormatError(
            f"{path}: expected one SIESTA run, or the path of one of its files, got those of {', '.join(labels)}"
        )
    return Run(labels[0], _matrix(folder, labels[0]))


def _labels(folder: Path) -> list[str]:
    return sorted({file.stem for ending in ENDINGS for file in _files(folder, ending)})


def _matrix(folder: Path, label: str) -> Path:
    return next(file for ending in ENDINGS for file in _files(folder, ending) if file.stem == label)


def _files(folder: Path, ending: str) -> Iterator[Path]:
    for file in folder.iterdir():
        if file.suffix == ending and file.is_file() and (ending != ".nc" or is_siesta_netcdf(file)):
            yield file


def system_label(fdf: Path) -> str:
    """Return the value of SystemLabel in an input."""
    for words in _fdf_lines(fdf):
        if plain_name(words[0]) == "systemlabel" and len(words) > 1:
            return words[1]
    return "siesta"


def species_of_input(run: Run) -> dict[str, int]:
    """Return the atomic number of each label in `ChemicalSpeciesLabel` of the run's input, {} without the only one."""
    numbers, inside = {}, False
    for words in input_lines(run):
        if words[0].lower() in ("%block", "%endblock") and len(words) > 1:
            inside = words[0].lower() == "%block" and plain_name(words[1]) == "chemicalspecieslabel"
        elif inside and len(words) > 2 and re.fullmatch(r"[-+]?\d+", words[1]):
            numbers[words[2]] = int(words[1])
    return numbers


def input_lines(run: Run) -> list[list[str]]:
    """Return the words of each line of the run's input; empty unless there is exactly one input of its label."""
    path = input_file(run)
    return [] if path is None else list(_fdf_lines(path))


def input_file(run: Run) -> Path | None:
    """Return the run's input; None unless there is exactly one input of its label."""
    inputs = [f for f in sorted(run.matrix.parent.glob("*.fdf")) if f.is_file() and system_label(f) == run.label]
    return inputs[0] if len(inputs) == 1 else None


def _fdf_lines(path: Path) -> Iterator[list[str]]:
    """Yield the words of each line; # ! ; begin a comment."""
    for line in path.read_text(errors="replace").splitlines():
        words = re.split(r"[#!;]", line)[0].split()
        if words:
            yield words


def plain_name(name: str) -> str:
    """Return a name of fdf without what does not count: case and the characters - _ ."""
    return re.sub(r"[-_.]", "", name).lower()


def outcome_of(run: Run) -> Outcome:
    """Return how the run ended by its output, or without one by MESSAGES, where SIESTA warns of cycles not converged."""
    outputs = [text for file in sorted(run.matrix.parent.iterdir()) if (text := _output(file, run.label)) is not None]
    if len(outputs) == 1:
        (text,) = outputs
        cycles = [match[1] is not None for match in OUTCOME.finditer(text)]
        energies = re.findall(rb"^siesta:\s+Total =\s+([-+.\d]+)\s*$", text, re.MULTILINE)
        if cycles:
            return Outcome(cycles[-1], float(energies[-1]) if energies else None)
    messages = run.matrix.with_name("MESSAGES")
    if messages.is_file() and b"SCF_NOT_CONV" in messages.read_bytes():
        return Outcome(converged=False)
    return Outcome()


def _output(file: Path, label: str) -> bytes | None:
    """Return the content of a file if it is an output of the run `label`, which has any name."""
    if file.suffix not in ("", ".out", ".log", ".txt") or file.name == "MESSAGES" or not file.is_file():
        return None
    if not 0 < file.stat().st_size < LARGEST_OUTPUT:
        return None
    with file.open("rb") as opened:
        head = opened.read(HEAD)
        found = re.search(rb"^reinit: System Label: *(\S+)", head, re.MULTILINE)
        if found is None or found[1].decode(errors="replace") != label:
            return None
        return head + opened.read()
