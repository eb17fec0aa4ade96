"""ABACUS's radial functions of an element, from an orbital file such as `C_gga_8au_100Ry_2s2p1d.orb`.

    Element                     C
    Radius Cutoff(a.u.)         8
    Lmax                        2
    Number of Sorbital-->       2        and P, D, F, ...
    Mesh                        801
    dr                          0.01
                    Type                   L                   N
                       0                   0                   0
    R at r = 0, dr, 2 dr, ... (Bohr)     the same for each function

ABACUS normalises the functions and integrates on the points of the file.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from harmose.core.basis import LETTERS, BasisSet, Shell
from harmose.core.radial import RadialBasis, Tabulated
from harmose.errors import BasisError, FormatError
from harmose.io.assembly import rounded_up
from harmose.units import BOHR

NAME = "abacus"
"""Name of the basis set, the same as of samples read from a run of ABACUS."""

ENDING = ".orb"

MAX_SIZE = 100_000_000
"""Largest file size in bytes. Real files have about 1 MB."""

FUNCTION = re.compile(r"Type\s+L\s+N\s+(\d+)\s+(\d+)\s+(\d+)")


@dataclass(frozen=True)
class Orbitals:
    """One element: atomic number, shells in ABACUS's order, and their radial functions in angstrom."""

    number: int
    shells: tuple[Shell, ...]
    functions: tuple[Tabulated, ...]


def read_orbs(paths: Sequence[str | Path]) -> RadialBasis:
    """Read one orbital file for each element as one basis set.

    Args:
        paths: the files.

    Returns:
        The radial functions. The radius of an element is that at which they end; H reaches further, by the projectors, and
        `RadialBasis.like` takes the radii of a run.

    Raises:
        FormatError: a file is missing, damaged or of another kind.
        BasisError: two files of one element.
    """
    shells, radii, functions = {}, {}, {}
    for path in paths:
        orbitals = read_orb(path)
        z = orbitals.number
        if z in shells:
            raise BasisError(f"{path}: expected one file for each element, got a second one for {chemical_symbols[z]}")
        shells[z], functions[z] = orbitals.shells, orbitals.functions
        radii[z] = rounded_up(max(f.cutoff for f in orbitals.functions))
    return RadialBasis(BasisSet(NAME, shells, radii), functions)


def read_orb(path: str | Path) -> Orbitals:
    """Read an orbital file.

    Args:
        path: the file.

    Returns:
        Its element, shells and normalised radial functions. n of a shell counts from l + 1 upward for each l.

    Raises:
        FormatError: the file is missing, damaged or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    if path.stat().st_size > MAX_SIZE:
        raise FormatError(f"{path}: expected orbitals of ABACUS, got a file of {path.stat().st_size} bytes")
    text = path.read_text(errors="replace")
    symbol = _header(path, text, "Element")
    if atomic_numbers.get(symbol, 0) == 0:
        raise FormatError(f"{path}: expected the orbitals of an element, got Element {symbol!r}")
    n_points, spacing = _number(path, text, "Mesh"), _number(path, text, "dr")
    if not (10 <= n_points <= 1e6 and n_points == int(n_points) and 0 < spacing * n_points < 200):
        raise FormatError(
            f"{path}: expected orbitals that end within 200 Bohr, got {n_points:g} points at {spacing:g} Bohr"
        )
    counts = _counts(path, text)
    tables = _tables(path, text, int(n_points))
    expected = [(l, k) for l, count in enumerate(counts) for k in range(count)]
    if sorted(tables) != expected:
        raise FormatError(f"{path}: expected {len(expected)} functions as its head says, got {len(tables)}")
    functions = tuple(_function(path, l, tables[l, k], spacing) for l, k in expected)
    return Orbitals(atomic_numbers[symbol], tuple(Shell(l + 1 + k, l) for l, k in expected), functions)


def _header(path: Path, text: str, key: str) -> str:
    found = re.search(rf"^\s*{re.escape(key)}\s+(\S+)", text, re.MULTILINE)
    if found is None:
        raise FormatError(f"{path}: expected orbitals of ABACUS with a line {key}, got none")
    return found[1]


def _number(path: Path, text: str, key: str) -> float:
    word = _header(path, text, key)
    try:
        return float(word)
    except ValueError:
        raise FormatError(f"{path}: expected a number after {key}, got {word!r}") from None


def _counts(path: Path, text: str) -> list[int]:
    """Return the number of functions of l = 0, 1, ..."""
    counts = {letter.lower(): int(n) for letter, n in re.findall(r"Number of ([A-Z])orbital-->\s+(\d+)", text)}
    if not counts or set(counts) - set(LETTERS) or sum(counts.values()) > 1000:
        raise FormatError(f"{path}: expected orbitals of ABACUS with lines 'Number of Sorbital-->', got others")
    return [counts.get(letter, 0) for letter in LETTERS]


def _tables(path: Path, text: str, n_points: int) -> dict[tuple[int, int], np.ndarray]:
    """Return R at the points, by l and the number of the function."""
    heads = list(FUNCTION.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    tables = {}
    for head, end in zip(heads, ends):
        try:
            values = np.array(text[head.end() : end].replace("D", "E").split(), dtype=np.float64)
        except ValueError:
            values = np.zeros(0)
        if len(values) != n_points or not np.isfinite(values).all():
            raise FormatError(f"{path}: expected {n_points} finite numbers for l = {head[2]}, function {int(head[3]) + 1}, "
                              f"got {len(values)} numbers or others")  # fmt: skip
        tables[int(head[2]), int(head[3])] = values
    return tables


def _function(path: Path, l: int, values: np.ndarray, spacing: float) -> Tabulated:
    r = spacing * np.arange(len(values))
    norm = float(np.sum((r * values) ** 2) * spacing)
    if not abs(norm - 1) < 0.1:
        raise FormatError(f"{path}: expected normalised orbitals, got a norm of {norm:.5g} for l = {l}")
    f = values / np.sqrt(norm)
    if l:
        f[1:] /= r[1:] ** l
        f[0] = (4 * f[1] - f[2]) / 3  # the parabola without slope at the origin
    return Tabulated(l, f * BOHR ** -(l + 1.5), spacing * BOHR, spacing * BOHR)
