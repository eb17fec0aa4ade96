"""SIESTA: H and S of a run, read by sisl from its HSX or TSHS file.

SIESTA writes Rydberg and real harmonics times (-1)^m (docs/conventions.md). Samples are in eV, with the energy zero of
SIESTA's eigenvalues (`.EIG`), without this sign.
"""

import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lazy_loader
import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.core.structure import check_structure
from harmose.errors import FormatError
from harmose.io.assembly import (
    check_not_folded,
    check_shells,
    covering_radii,
    element_keys,
    from_elements,
    hamiltonian_rules,
    overlap_rules,
)
from harmose.io.siesta.basis import Species, find_ion, read_atomic_numbers, read_orbital_table
from harmose.io.siesta.files import Header, readable
from harmose.io.siesta.ion_nc import NAME
from harmose.io.species import element_of, shells_of_elements
from harmose.so3.conventions import Convention
from harmose.spin import Spin

sisl = lazy_loader.load("sisl")  # imported on first use

SIESTA = Convention("siesta", {}, {l: tuple((-1) ** abs(m) for m in range(-l, l + 1)) for l in range(1, 7)})
"""m = -l..l with the Condon-Shortley sign: p is (-y, z, -x)."""

ENDINGS = (".HSX", ".TSHS")
"""Files with H and S, in the order of preference."""


def read_siesta(path: str | Path, basis: BasisSet | None = None) -> Sample:
    """Read a run. `path` is its folder, or its `.fdf`, `.HSX` or `.TSHS` file.

    H is in eV with the energy zero of `.EIG`. S, Fermi level and number of valence electrons are read too. Spin is none,
    collinear or spinor (non-collinear and spin-orbit). `basis` is the basis set of another run of the same system, so that
    both fit into one store. By default radii come from the orbitals and projectors in `.ion.nc` or `.ion.xml` beside the
    file, or from the blocks that are not zero.

    Raises `FormatError` for files that are missing, damaged or of another kind, `BasisError` for two species of one
    element with different orbitals, and the errors of `io.assembly`.
    """
    run = _find(Path(path))
    with readable(run.matrix) as (file, header):
        stored = _read_matrices(file, run, header)
    species, which = _species(run, stored)
    numbers = _numbers(run, stored, species, which)
    structure = Atoms(numbers, positions=stored.positions, cell=stored.cell, pbc=stored.n_cells > 1)
    check_structure(structure, str(run.matrix))
    kinds = [(z, species[k]) for z, k in np.unique(np.column_stack([numbers, which]), axis=0).tolist()]
    shells = shells_of_elements(((z, kind.label, kind.shells) for z, kind in kinds), str(run.matrix))
    if basis is None:
        basis = BasisSet(NAME, shells, _radii(run, structure, stored, kinds))
    check_shells(basis, shells, str(run.matrix))
    if not structure.pbc.any():
        check_not_folded(structure, basis, str(run.matrix), "run with more k-points, or with `ForceAuxCell true`")
    entries = (stored.rows, stored.cols, stored.cells)
    h = from_elements(
        structure, basis, *entries, stored.h, hamiltonian_rules(f"{run.matrix}: H"), stored.spin, convention=SIESTA
    )
    s = from_elements(structure, basis, *entries, stored.s, overlap_rules(f"{run.matrix}: S"), convention=SIESTA)
    return _sample(run, structure, h, s, stored, header)


def _sample(run: "_Run", structure: Atoms, h: BlockMatrix, s: BlockMatrix, stored: "_Stored", header: Header) -> Sample:
    fermi_level = stored.fermi_level if stored.fermi_level is not None else _fermi_level(run.beside(".EIG"))
    return Sample(
        name=run.label,
        structure=structure,
        basis=h.basis,
        hamiltonian=h,
        overlap=s,
        spin=h.spin,
        n_electrons=round(header.n_electrons, 6),
        fermi_level=fermi_level,
        provenance={"code": "siesta", "file": run.matrix.name},
    )


@dataclass(frozen=True)
class _Run:
    """A run: its label, and its file with the matrices. Its other files are in the same folder."""

    label: str
    matrix: Path

    def beside(self, ending: str) -> Path:
        return self.matrix.with_name(self.label + ending)


def _find(path: Path) -> _Run:
    if path.is_file() and path.suffix in ENDINGS:
        return _Run(path.stem, path)
    if path.is_file() and path.suffix == ".fdf":
        folder, label = path.parent, _system_label(path)
    elif path.is_dir():
        folder, label = path, None
    else:
        raise FormatError(
            f"{path}: expected a SIESTA run folder or its .fdf, .HSX or .TSHS file, got another kind of file"
        )
    found = sorted(p for ending in ENDINGS for p in folder.glob("*" + ending) if label in (None, p.stem))
    labels = sorted({p.stem for p in found})
    if not labels:
        raise FormatError(
            f"{path}: expected {label or 'LABEL'}.HSX or .TSHS (SIESTA's SaveHS or TS.HS.Save), got neither"
        )
    if len(labels) > 1:
        raise FormatError(
            f"{path}: expected one SIESTA run, or the path of one of its files, got those of {', '.join(labels)}"
        )
    return _Run(labels[0], next(p for ending in ENDINGS for p in found if p.suffix == ending))


def _system_label(path: Path) -> str:
    """Return the value of SystemLabel. Case and the characters - _ . do not count in the names of fdf."""
    for line in path.read_text(errors="replace").splitlines():
        words = line.split("#")[0].split()
        if len(words) > 1 and re.sub(r"[-_.]", "", words[0]).lower() == "systemlabel":
            return words[1]
    return "siesta"


@dataclass(frozen=True)
class _Stored:
    """Content of the matrix file: elements in SIESTA's order, H in eV with the energy zero of `.EIG`."""

    positions: np.ndarray
    cell: np.ndarray
    n_cells: np.ndarray
    species: list[Species] | None
    species_of_atom: np.ndarray
    counts: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    cells: np.ndarray
    h: np.ndarray
    s: np.ndarray
    spin: Spin
    fermi_level: float | None


def _read_matrices(file: Path, run: _Run, header: Header) -> _Stored:
    is_hsx = run.matrix.suffix == ".HSX"
    old = is_hsx and header.version == 0
    try:
        # sisl warns about normal content of older files, and its own code makes numpy warn.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The oldest files have relative positions only.
            geometry = {"geometry": sisl.get_sile(_needed(run, ".XV")).read_geometry()} if old else {}
            sile = (sisl.io.siesta.hsxSileSiesta if is_hsx else sisl.io.siesta.tshsSileSiesta)(file)
            operator = sile.read_hamiltonian(dtype=np.float64, **geometry)
            fermi_level = None if old else float(sile.read_fermi_level())
            # Not from the operator: there the oldest files have lost their atoms.
            atoms = sile.read_basis().atom if is_hsx else None
        return _stored(operator, atoms, fermi_level)
    except FormatError:
        raise
    except Exception as error:
        # sisl raises many types of errors for damaged files.
        raise FormatError(
            f"{run.matrix}: expected matrices that sisl can read, got {type(error).__name__}: {error}"
        ) from None


def _stored(operator: Any, atoms: Sequence[Any] | None, fermi_level: float | None) -> _Stored:
    geometry, spin = operator.geometry, operator.spin
    coo = operator.tocsr(0).tocoo()
    n = geometry.no
    parts = [operator.tocsr(k).data for k in range(operator.shape[2])]
    s = parts.pop() if not operator.orthogonal else ((coo.row == coo.col) * 1.0)
    if spin.is_noncolinear or spin.is_spinorbit:
        h, kind = _spinor(parts), Spin.SPINOR
    elif spin.is_polarized or spin.is_unpolarized:
        h, kind = np.stack(parts), Spin.COLLINEAR if spin.is_polarized else Spin.NONE
    else:
        raise FormatError(f"expected H without Nambu components, got spin {spin}")
    h[[0, -1]] = h[[0, -1]] + (fermi_level or 0.0) * s  # uu and dd, up and down, or the only component
    return _Stored(
        positions=geometry.xyz,
        cell=geometry.cell,
        n_cells=np.asarray(geometry.nsc),
        species=[Species(atom.tag, _species_shells(atom)) for atom in atoms] if atoms is not None else None,
        species_of_atom=np.asarray(geometry.atoms.species),
        counts=np.asarray(geometry.orbitals),
        rows=coo.row,
        cols=coo.col % n,
        cells=geometry.sc_off[coo.col // n],
        h=h,
        s=s,
        spin=kind,
        fermi_level=fermi_level,
    )


def _spinor(parts: list[np.ndarray]) -> np.ndarray:
    """sisl's real components Re uu, Re dd, Re ud, Im ud (, Im uu, Im dd, Re du, Im du) -> uu, ud, du, dd."""
    up_down = parts[2] + 1j * parts[3]
    if len(parts) == 4:
        return np.stack([parts[0] + 0j, up_down, up_down.conj(), parts[1] + 0j])
    return np.stack([parts[0] + 1j * parts[4], up_down, parts[6] + 1j * parts[7], parts[1] + 1j * parts[5]])


def _species_shells(atom: Any) -> tuple[Shell, ...]:
    return tuple(Shell(int(o.n), int(o.l), int(o.zeta)) for o in atom.orbitals if o.m == -o.l)


def _needed(run: _Run, ending: str) -> Path:
    path = run.beside(ending)
    if not path.is_file():
        raise FormatError(
            f"{run.matrix}: expected {path.name} beside it, since this kind of file does not name the atoms"
        )
    return path


def _species(run: _Run, stored: _Stored) -> tuple[list[Species], np.ndarray]:
    """Return the species, and the index of the species of each atom (N,)."""
    species, which = stored.species, stored.species_of_atom
    if species is None:
        species, which = read_orbital_table(_needed(run, ".ORB_INDX")).species()
        _check_count(run, ".ORB_INDX", len(which), len(stored.counts))
    expected = np.array([kind.n_orbitals for kind in species])[which]
    if not np.array_equal(expected, stored.counts):
        k = int(np.argmax(expected != stored.counts))
        raise FormatError(f"{run.matrix}: expected {expected[k]} orbitals on atom {k} ({species[which[k]].label}), got "
                          f"{stored.counts[k]}")  # fmt: skip
    return species, which


def _numbers(run: _Run, stored: _Stored, species: Sequence[Species], which: np.ndarray) -> np.ndarray:
    """Return the atomic numbers (N,) from `.XV`, or from the ion files or labels of the species."""
    if run.beside(".XV").is_file() or stored.species is None:
        numbers = read_atomic_numbers(_needed(run, ".XV"))
        _check_count(run, ".XV", len(numbers), len(stored.counts))
    else:
        numbers = np.array([_number(run, kind.label) for kind in species])[which]
    if numbers.min() < 1:
        raise FormatError(f"{run.matrix}: expected atoms with nuclei, got a ghost or an alloy (number {numbers.min()})")
    return numbers


def _check_count(run: _Run, ending: str, count: int, expected: int) -> None:
    if count != expected:
        raise FormatError(f"{run.beside(ending)}: expected the {expected} atoms of {run.matrix.name}, got {count}")


def _number(run: _Run, label: str) -> int:
    ion = find_ion(run.matrix.parent, label)
    number = ion.number if ion is not None else element_of(label)
    if number is None:
        raise FormatError(
            f"{run.matrix}: expected {run.label}.XV beside it, since the label {label!r} names no element"
        )
    return number


def _radii(run: _Run, structure: Atoms, stored: _Stored, kinds: Sequence[tuple[int, Species]]) -> dict[int, float]:
    keys = element_keys(stored.counts, stored.rows, stored.cols, stored.cells)
    keys = keys[np.abs(stored.h).max(axis=0) > hamiltonian_rules().tolerance]
    reaches, least = _reaches(run, {kind.label for _, kind in kinds}), {}
    for z, kind in kinds:
        least[z] = max(least.get(z, 1.0), reaches.get(kind.label, 1.0))
    return covering_radii(structure, keys, least, where=str(run.matrix))


def _reaches(run: _Run, labels: Collection[str]) -> dict[str, float]:
    """Return the reach (angstrom) of each species: orbitals plus projectors from ion files, or orbitals from `.ORB_INDX`."""
    ions = {label: ion for label in labels if (ion := find_ion(run.matrix.parent, label)) is not None}
    if len(ions) == len(labels):
        projectors = max(ion.projector_reach for ion in ions.values())
        return {label: max(f.cutoff for f in ion.functions) + projectors for label, ion in ions.items()}
    table = run.beside(".ORB_INDX")
    return read_orbital_table(table).reaches if table.is_file() else {}


def _fermi_level(path: Path) -> float | None:
    """Return the first number of `.EIG` (eV); None without the file."""
    if not path.is_file():
        return None
    with path.open(errors="replace") as file:
        first = file.readline().split()
    try:
        return float(first[0])
    except (ValueError, IndexError):
        raise FormatError(f"{path}: expected the Fermi level in the first line, got {' '.join(first)[:40]!r}") from None
