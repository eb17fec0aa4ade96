"""FHI-aims' output, which is standard output and so has any name: convergence, Fermi level, energy, electrons."""

import re
from dataclasses import dataclass
from pathlib import Path

NAME = "aims.out"
"""The usual name of the output; it is taken if there are several."""

HEAD = 65536
"""Number of bytes in which an output says that it is one of FHI-aims."""

MATRICES = re.compile(r"rs_\w+\.|basis-indices\.out|geometry\.in|control\.in")
"""Names of other files of a run, which need not be opened to look for the output."""

CONVERGENCE = re.compile(
    r"self-consistency cycle (converged)|self-consistency cycle did not converge"
    r"|self-consistency cycle not (?:yet )?converged|scf cycle not converged",
    re.IGNORECASE,
)

NUMBER = r"([-+.\dEe]+)"


@dataclass(frozen=True)
class Output:
    """Content of an output. Each value is None if the output does not have it.

    Attributes:
        path: the file.
        converged: True if the last self-consistency cycle converged, False if it did not.
        fermi_level: in eV, of the last cycle.
        energy: total energy in eV, of the last cycle.
        n_electrons: number of electrons.
        n_moved: how many times the atoms have moved since geometry.in.
    """

    path: Path
    converged: bool | None
    fermi_level: float | None
    energy: float | None
    n_electrons: float | None
    n_moved: int


def find_outputs(folder: Path) -> list[Path]:
    """Return the outputs of FHI-aims in a folder: only `NAME` if it is there, else all files that say they are one."""
    usual = folder / NAME
    if usual.is_file():
        return [usual]
    files = (f for f in folder.iterdir() if not f.name.startswith(".") and not MATRICES.match(f.name) and f.is_file())
    return sorted(f for f in files if _is_output(f))


def _is_output(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"Invoking FHI-aims" in file.read(HEAD)
    except OSError:
        return False


def read_output(path: Path) -> Output:
    """Read an output."""
    text = path.read_text(errors="replace")
    cycles = [match[1] is not None for match in CONVERGENCE.finditer(text)]
    return Output(
        path,
        cycles[-1] if cycles else None,
        _last_number(text, rf"Chemical potential \(Fermi level\)[^:\n]*:\s*{NUMBER} eV"),
        _last_number(text, rf"Total energy of the DFT / Hartree-Fock s\.c\.f\. calculation\s*:\s*{NUMBER} eV"),
        _last_number(text, rf"a total of\s+{NUMBER}\s+electrons"),
        len(re.findall(r"^\s*Updated atomic structure:", text, re.MULTILINE)),
    )


def _last_number(text: str, pattern: str) -> float | None:
    """Return the last number that is finite; None without one, and where aims has written *** for it."""
    found = re.findall(pattern, text)
    try:
        return float(found[-1]) if found else None
    except ValueError:
        return None
