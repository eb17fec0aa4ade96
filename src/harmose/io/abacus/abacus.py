"""ABACUS: H(R) and S(R) of a run of one geometry, from its `OUT.*` folder.

ABACUS writes Rydberg and orbitals m = 0, 1, -1, 2, -2, ... with the sign (-1)^m; spin is the innermost index
(docs/conventions.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.sample import Sample
from harmose.core.species import species_of, with_species
from harmose.core.structure import check_structure
from harmose.errors import FormatError
from harmose.io.abacus.csr import CellMatrices, read_cell_matrices
from harmose.io.abacus.files import OVERLAP, SWITCH, Matrices, matrices, output_folder, overlap_file
from harmose.io.abacus.inputs import orbital_reaches, read_parameters, read_stru
from harmose.io.abacus.log import LOGS, OVERLAP_LOGS, Log, read_log
from harmose.io.assembly import (
    covering_radii,
    element_keys,
    from_elements,
    hamiltonian_rules,
    overlap_rules,
)
from harmose.io.overlaps import Overlap
from harmose.io.species import number_species
from harmose.io.unfolding import nearest_cells, unfolded_cells
from harmose.io.valence import valence_of_elements
from harmose.so3.conventions import Convention
from harmose.spin import Spin
from harmose.units import RYDBERG

ABACUS = Convention(
    "abacus",
    {l: tuple(2 * m - 1 if m > 0 else -2 * m for m in range(-l, l + 1)) for l in range(1, 7)},
    {l: tuple((-1) ** abs(m) for m in range(-l, l + 1)) for l in range(1, 7)},
)
"""m = 0, 1, -1, 2, -2, ... with the Condon-Shortley sign: p is (z, -x, -y)."""


@dataclass(frozen=True)
class Elements:
    """Rows (nnz,), columns (nnz,), cells (nnz, 3) and values (n_components, nnz) of the matrix in the file `path`."""

    path: Path
    rows: np.ndarray
    cols: np.ndarray
    cells: np.ndarray
    values: np.ndarray

    def keys(self, counts: np.ndarray, tolerance: float) -> np.ndarray:
        """Return the block keys (n, 5) of all elements above `tolerance`; `counts` (N,): orbitals of each atom."""
        some = np.abs(self.values).max(axis=0) > tolerance
        return element_keys(counts, self.rows[some], self.cols[some], self.cells[some])


def read_abacus(path: str | Path, basis: BasisSet | None = None) -> Sample:
    """Read a run. `path` is its `OUT.*` folder, or the folder above it with one run.

    H is in eV with the energy zero of `istate.info`. S, Fermi level, total energy, number of valence electrons and
    convergence are read too; what the log does not say is None. Spin is none, collinear (nspin 2) or spinor (nspin 4).
    Runs with `gamma_only 1` are read where no two atoms reach each other in several images. `basis` is the basis set of
    another run of the same system; default: radii of the orbitals plus projectors.

    Raises `FormatError` for files that are missing, damaged or of another kind, for ghosts and for trajectories,
    `BasisError` for other orbitals than those of `basis`, and the errors of `io.assembly`.
    """
    folder = output_folder(Path(path))
    run = _read_run(folder, LOGS, basis)
    files = matrices(folder)
    spin, h = _hamiltonian(files, run)
    if files.overlap is None:
        raise FormatError(f"{folder}: expected the overlap beside H (sr_nao.csr or data-SR-sparse_SPIN0.csr), got none "
                          f"({SWITCH})")  # fmt: skip
    s = _overlap(files.overlap, run, spin is Spin.SPINOR)
    structure, basis, (h, s) = _placed(run, [(h, hamiltonian_rules().tolerance), (s, overlap_rules().tolerance)], basis)
    rules = hamiltonian_rules(str(h.path)), overlap_rules(str(s.path))
    return Sample(
        name=folder.resolve().name.removeprefix("OUT."),
        structure=structure,
        basis=basis,
        hamiltonian=from_elements(structure, basis, h.rows, h.cols, h.cells, h.values, rules[0], spin, ABACUS),
        overlap=from_elements(structure, basis, s.rows, s.cols, s.cells, s.values, rules[1], convention=ABACUS),
        spin=spin,
        n_electrons=_n_electrons(run),
        fermi_level=run.log.fermi_level,
        energy=run.log.energy,
        provenance={
            "code": "abacus",
            **({"version": run.log.version} if run.log.version else {}),
            "converged": run.log.converged,
            **valence_of_elements(structure, _valence(run), run.log.n_electrons),
        },
    )


def read_abacus_overlap(path: str | Path, basis: BasisSet | None = None) -> Overlap:
    """Read S of a run, also of one with `calculation get_s`; arguments and errors as in `read_abacus`."""
    folder = output_folder(Path(path), OVERLAP)
    run = _read_run(folder, (*LOGS, *OVERLAP_LOGS), basis)
    file = overlap_file(folder)
    assert file is not None
    s = _overlap(file, run, is_spinor=None)
    structure, basis, (s,) = _placed(run, [(s, overlap_rules().tolerance)], basis)
    rules = overlap_rules(str(file))
    matrix = from_elements(structure, basis, s.rows, s.cols, s.cells, s.values, rules, convention=ABACUS)
    return Overlap(folder.resolve().name.removeprefix("OUT."), structure, matrix)


# Run -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """A folder with its log. `structure` has the species of its atoms, `counts` (N,) their numbers of orbitals.

    `species` has the number (`core.species`) of each species of the log.
    """

    folder: Path
    log: Log
    structure: Atoms
    species: Sequence[int]
    counts: np.ndarray

    @property
    def shells(self) -> dict[int, tuple[Shell, ...]]:
        return {z: kind.shells for z, kind in zip(self.species, self.log.species)}


def _read_run(folder: Path, logs: Sequence[str], basis: BasisSet | None) -> _Run:
    log = read_log(folder, logs)
    check_structure(log.structure, str(folder))
    which = np.repeat(np.arange(len(log.species)), [kind.count for kind in log.species])
    kinds = [(kind.number, kind.shells) for kind in log.species]
    species = number_species(kinds, basis, str(folder))
    structure = with_species(log.structure, np.array(species)[which])
    return _Run(folder, log, structure, species, np.array([kind.n_orbitals for kind in log.species])[which])


def _valence(run: _Run) -> list[float | None]:
    """Return the valence electrons of each atom by its species; None where the log does not say them."""
    return [kind.valence for kind in run.log.species for _ in range(kind.count)]


def _n_electrons(run: _Run) -> float | None:
    """Return the electrons of the run: `nelec` of `INPUT`, or the neutral number plus `nelec_delta`."""
    values = read_parameters(run.folder)
    try:
        given, delta = (float(values.get(name, 0)) for name in ("nelec", "nelec_delta"))
    except ValueError:
        return None
    neutral = run.log.n_electrons
    return given or (None if neutral is None else neutral + delta)


def _placed(
    run: _Run, matrices: Sequence[tuple[Elements, float]], basis: BasisSet | None
) -> tuple[Atoms, BasisSet, list[Elements]]:
    """Return the structure, periodic where atoms are coupled across cells, the basis set, and elements with their cells.

    `matrices`, each with the value that counts as zero. A single matrix for R = 0 is the sum over all cells.
    """
    structure = run.structure
    folded = not any(elements.cells.any() for elements, _ in matrices)
    keys = np.unique(np.concatenate([elements.keys(run.counts, tolerance) for elements, tolerance in matrices]), axis=0)
    if folded:
        keys[:, 2:] = nearest_cells(structure, keys[:, 0], keys[:, 1])
    if basis is None:
        where = str(matrices[0][0].path)
        basis = BasisSet("abacus", run.shells, covering_radii(structure, keys, _reaches(run), where=where))
    placed = [elements for elements, _ in matrices]
    if folded:
        placed = [_unfolded(elements, run, basis) for elements in placed]
        keys = np.concatenate([one.keys(run.counts, limit) for one, (_, limit) in zip(placed, matrices)])
    structure = structure.copy()
    structure.pbc = keys[:, 2:].any(axis=0)
    return structure, basis, placed


def _unfolded(elements: Elements, run: _Run, basis: BasisSet) -> Elements:
    structure = run.structure
    keys = element_keys(run.counts, elements.rows, elements.cols, elements.cells)
    reach = basis.reach(species_of(structure))
    cells = unfolded_cells(structure, reach, keys[:, 0], keys[:, 1], str(elements.path), "run with gamma_only 0")
    return replace(elements, cells=cells)


def _reaches(run: _Run) -> dict[int, float]:
    """Return for each species the longest orbital plus the longest projector (angstrom), or 1 if the log has neither."""
    log = run.log
    if log.orbital_reach is None or log.projector_reach is None:
        return dict.fromkeys(run.species, 1.0)
    own, reaches = orbital_reaches(read_stru(run.folder), [kind.label for kind in log.species]), {}
    for z, kind in zip(run.species, log.species):
        reaches[z] = max(reaches.get(z, 0.0), own.get(kind.label, log.orbital_reach) + log.projector_reach)
    return reaches


# Matrices ------------------------------------------------------------------------------------------------------------


def _hamiltonian(files: Matrices, run: _Run) -> tuple[Spin, Elements]:
    paths = files.hamiltonian
    matrices = [read_cell_matrices(path) for path in paths]
    if np.iscomplexobj(matrices[0].values):
        spin = Spin.SPINOR
    else:
        spin = Spin.COLLINEAR if len(paths) == 2 else Spin.NONE
    n_spin = spin.n_components
    if run.log.n_spin not in (None, n_spin) or (spin is Spin.SPINOR and len(paths) == 2):
        names = " and ".join(path.name for path in paths)
        raise FormatError(f"{run.folder}: expected the matrices of nspin = {run.log.n_spin}, as the log says, got those of "
                          f"nspin = {n_spin} ({names})")  # fmt: skip
    for path, matrix in zip(paths, matrices):
        _check_size(path, matrix, spin is Spin.SPINOR, run)
    rows, cols, cells, values = _merged(_spin_blocks(matrices[0]) if spin is Spin.SPINOR else matrices)
    return spin, Elements(paths[0], rows, cols, cells, values * RYDBERG)


def _overlap(path: Path, run: _Run, is_spinor: bool | None) -> Elements:
    """Return S, one for both spins. `is_spinor`: whether it must have two rows for each orbital; None if either may be."""
    matrix = read_cell_matrices(path)
    is_complex = np.iscomplexobj(matrix.values)
    _check_size(path, matrix, is_complex if is_spinor is None else is_spinor, run)
    if is_spinor is not None and is_complex != is_spinor:
        raise FormatError(f"{path}: expected an overlap of the same number type as H, got another one")
    if not is_complex:
        return Elements(path, *_merged([matrix]))
    rows, cols, cells, (uu, ud, du, dd) = _merged(_spin_blocks(matrix))
    if max(np.abs(x).max(initial=0.0) for x in (ud, du, uu - dd, uu.imag)) > 1e-7:
        raise FormatError(f"{path}: expected a real overlap without parts between up and down, got another one")
    return Elements(path, rows, cols, cells, uu.real[None])


def _check_size(path: Path, matrix: CellMatrices, is_spinor: bool, run: _Run) -> None:
    expected = int(run.counts.sum()) * (2 if is_spinor else 1)
    if matrix.size != expected:
        raise FormatError(f"{path}: expected matrices of {expected} rows by the shells in the log, got {matrix.size}")


def _spin_blocks(matrix: CellMatrices) -> list[CellMatrices]:
    """Split a matrix whose innermost index is spin into uu, ud, du, dd."""
    kind = 2 * (matrix.rows % 2) + matrix.cols % 2
    return [
        CellMatrices(matrix.size // 2, matrix.rows[w] // 2, matrix.cols[w] // 2, matrix.cells[w], matrix.values[w])
        for w in (kind == k for k in range(4))
    ]


def _merged(parts: Sequence[CellMatrices]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Combine matrices as spin components. An element that only some of them have is zero in the others."""
    keys = np.concatenate([np.column_stack([p.rows, p.cols, p.cells]) for p in parts])
    if len(parts) == 1:
        return keys[:, 0], keys[:, 1], keys[:, 2:], parts[0].values[None]
    spans = keys.max(axis=0, initial=0) - keys.min(axis=0, initial=0) + 1
    strides = np.append(np.cumprod(spans[:0:-1])[::-1], 1)
    _, first, which = np.unique((keys - keys.min(axis=0, initial=0)) @ strides, return_index=True, return_inverse=True)
    component = np.repeat(np.arange(len(parts)), [len(p.rows) for p in parts])
    values = np.zeros((len(parts), len(first)), dtype=np.result_type(*(p.values for p in parts)))
    values[component, which] = np.concatenate([p.values for p in parts])
    rows, cols, cells = keys[first, 0], keys[first, 1], keys[first, 2:]
    return rows, cols, cells, values
