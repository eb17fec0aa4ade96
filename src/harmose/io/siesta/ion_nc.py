"""SIESTA's radial functions of a species, from `.ion.nc` (classic netCDF or netCDF4) or `.ion.xml`.

Both hold R(r) / r^l of each shell at about 500 equidistant radii from 0 to the shell's cutoff, in Bohr. SIESTA interpolates
with a cubic spline of zero slope at the origin and zero curvature at the cutoff. `.ion.xml` has twelve digits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import scipy
from ase.data import chemical_symbols

from harmose.core.basis import LETTERS, BasisSet, Shell
from harmose.core.radial import RadialBasis, Tabulated
from harmose.errors import BasisError, FormatError
from harmose.io.assembly import rounded_up
from harmose.io.hdf5 import numbers, open_hdf5
from harmose.units import BOHR

NAME = "siesta"
"""Name of the basis set, the same as of samples read from a SIESTA run."""

STEP = math.pi / 100 * BOHR
"""Step (angstrom) of the radial grid on which SIESTA integrates: pi / 100 Bohr, where 100 is twice the root of 2500 Ry."""

MAX_SIZE = 100e6
"""Largest file size in bytes. Real files have about 0.1 MB (`.ion.nc`) or 1 MB (`.ion.xml`)."""


@dataclass(frozen=True)
class Ion:
    """One species: atomic number, shells in SIESTA's order, their functions, reach of its longest projector (angstrom).

    `valence` is its number of valence electrons, None where the file does not say it.
    """

    number: int
    shells: tuple[Shell, ...]
    functions: tuple[Tabulated, ...]
    projector_reach: float
    valence: float | None = None


def read_ions(paths: Sequence[str | Path]) -> RadialBasis:
    """Read one file for each element as one basis set.

    The radius of an element is its longest orbital plus the longest projector of all species, rounded up to 0.1 angstrom;
    H has no elements beyond. Raises `FormatError` for a file that is missing, damaged or of another kind, `BasisError` for
    two files of one element.
    """
    shells: dict[int, tuple[Shell, ...]] = {}
    functions: dict[int, tuple[Tabulated, ...]] = {}
    ions = [read_ion(path) for path in paths]
    for ion, path in zip(ions, paths):
        if ion.number in functions:
            raise BasisError(f"{path}: expected one file for each element, got a second one for "
                             f"{chemical_symbols[ion.number]}")  # fmt: skip
        shells[ion.number], functions[ion.number] = ion.shells, ion.functions
    projectors = max((ion.projector_reach for ion in ions), default=0.0)
    radii = {z: rounded_up(max(f.cutoff for f in functions[z]) + projectors) for z in functions}
    return RadialBasis(BasisSet(NAME, shells, radii), functions)


def read_ion(path: str | Path) -> Ion:
    """Read a `.ion.nc` or `.ion.xml` file; `FormatError` unless all its orbitals are there and normalised."""
    path = Path(path)
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    if path.stat().st_size > MAX_SIZE:
        raise FormatError(
            f"{path}: expected the orbitals of a SIESTA species, got a file of {path.stat().st_size} bytes"
        )
    with path.open("rb") as file:
        start = file.read(64)
    if start[:4] == b"\x89HDF":
        raw = _read_netcdf4(path)
    elif start[:4] in (b"CDF\x01", b"CDF\x02"):
        raw = _reading(path, "netCDF", _read_classic)
    elif start.lstrip()[:1] == b"<":
        raw = _reading(path, "XML", _read_xml)
    else:
        raise FormatError(f"{path}: expected a SIESTA .ion.nc (netCDF) or .ion.xml file, got another kind of file")
    return _ion(path, raw)


@dataclass(frozen=True)
class _Raw:
    """Content of a file, in Bohr. `values` holds R / r^l, one table for each shell."""

    number: int
    quantum_numbers: np.ndarray
    spacing: np.ndarray
    values: Sequence[np.ndarray]
    projectors: np.ndarray
    valence: object = None


def _reading(path: Path, kind: str, read: Callable[[Path], _Raw]) -> _Raw:
    try:
        return read(path)
    except FormatError:
        raise
    except Exception:
        # scipy and expat raise many types of errors for damaged files.
        raise FormatError(
            f"{path}: expected the orbitals of a SIESTA species, got damaged {kind}; copy it again, or run SIESTA again"
        ) from None


def _read_classic(path: Path) -> _Raw:
    with scipy.io.netcdf_file(path, "r", mmap=False) as file:
        tables = {name: np.array(variable[:]) for name, variable in file.variables.items() if name in _TABLES}
        return _of_tables(path, tables, *(getattr(file, name, None) for name in _ATTRIBUTES))


def _read_netcdf4(path: Path) -> _Raw:
    with open_hdf5(path) as file:
        tables = {name: numbers(file, name) for name in _TABLES if name in file}
        attributes = [file.attrs.get(name) for name in _ATTRIBUTES]
    return _reading(path, "netCDF4", lambda path: _of_tables(path, tables, *attributes))


_TABLES = ("orbnl_n", "orbnl_l", "orbnl_z", "delta", "orb", "kbcutoff")


_ATTRIBUTES = ("Atomic_number", "Valence_charge")


def _of_tables(path: Path, tables: Mapping[str, np.ndarray], number: object, valence: object) -> _Raw:
    missing = [name for name in _TABLES[:5] if name not in tables] + ["Atomic_number"] * (number is None)
    if missing:
        raise FormatError(f"{path}: expected the orbitals of a SIESTA species, got a netCDF file without {missing[0]}")
    n, l, zeta, spacing, values, *_ = (tables[name] for name in _TABLES[:5])
    return _Raw(int(np.ravel(np.asarray(number))[0]), np.stack([n, l, zeta], axis=1), spacing, list(values),
                np.ravel(tables.get("kbcutoff", np.zeros(0))), valence)  # fmt: skip


def _read_xml(path: Path) -> _Raw:
    root = ElementTree.parse(path).getroot()
    orbitals = root.findall("paos/orbital")
    if root.tag != "ion" or not orbitals:
        raise FormatError(f"{path}: expected the orbitals of a SIESTA species, got XML without <ion><paos><orbital>")
    quantum_numbers = np.array([[int(orbital.attrib[name]) for name in "nlz"] for orbital in orbitals])
    spacing = np.array([float(orbital.findtext("radfunc/delta", "")) for orbital in orbitals])
    data = [np.array(orbital.findtext("radfunc/data", "").split(), float) for orbital in orbitals]
    counts = [int(orbital.findtext("radfunc/npts", "")) for orbital in orbitals]
    if [2 * n for n in counts] != [len(d) for d in data]:
        raise FormatError(f"{path}: expected tables of {counts} points, got {[len(d) / 2 for d in data]}")
    projectors = [float(cutoff.text or "") for cutoff in root.iterfind("kbs//cutoff")]
    valence = root.findtext("valence")
    return _Raw(
        int(root.findtext("z", "")), quantum_numbers, spacing, [d[1::2] for d in data], np.array(projectors), valence
    )


def _ion(path: Path, raw: _Raw) -> Ion:
    _check(path, raw)
    shells = tuple(Shell(*map(int, q)) for q in raw.quantum_numbers)
    functions = tuple(
        Tabulated(s.l, np.asarray(v, dtype=np.float64) * BOHR ** -(s.l + 1.5), float(h) * BOHR, STEP)
        for s, v, h in zip(shells, raw.values, raw.spacing)
    )
    for shell, function in zip(shells, functions):
        r, radial = function.samples()
        norm = float((r**2 * radial**2).sum() * STEP)
        if not abs(norm - 1) < 1e-2:
            raise FormatError(f"{path}: expected normalised orbitals, got a norm of {norm:.5g} for shell {shell}")
    return Ion(raw.number, shells, functions, float(raw.projectors.max(initial=0.0)) * BOHR, _valence(raw.valence))


def _valence(stated: object) -> float | None:
    """Return a number of electrons of a file, None for anything else."""
    try:
        return float(stated.strip() if isinstance(stated, str) else np.ravel(np.asarray(stated, dtype=np.float64))[0])
    except (TypeError, ValueError, IndexError):
        return None


def _check(path: Path, raw: _Raw) -> None:
    """`FormatError` if a number is outside the range of any basis set."""
    if not 0 < raw.number < len(chemical_symbols):
        raise FormatError(f"{path}: expected an atom with a nucleus, got a ghost or an alloy (number {raw.number})")
    n, l, zeta = raw.quantum_numbers.T
    if not ((n > 0) & (l >= 0) & (l < len(LETTERS)) & (zeta > 0)).all():
        raise FormatError(
            f"{path}: expected n > 0, l = 0..{len(LETTERS) - 1} and zeta > 0 of every orbital, got others"
        )
    if not len(raw.values) == len(raw.spacing) == len(n) > 0 or min(map(len, raw.values)) < 10:
        raise FormatError(f"{path}: expected a table for each of {len(n)} orbitals, got {len(raw.values)}")
    reaches = [len(v) * h for v, h in zip(raw.values, raw.spacing)]
    if not all(0.1 < r < 200 for r in reaches) or not ((raw.projectors >= 0) & (raw.projectors < 200)).all():
        raise FormatError(f"{path}: expected orbitals and projectors that end within 200 Bohr")
    if not all((np.abs(v) < 1e6).all() for v in raw.values):
        raise FormatError(f"{path}: expected finite orbitals, got NaN, infinity or more than 1e6 Bohr^(-3/2)")
